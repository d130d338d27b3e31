// Package dnf is the Provider of dnf 4. It asks dnf's own library what is installed and what would be installed; it verifies
// the signature of every repository's repomd.xml and the checksum of every file that it vouches for, and what it tells of a
// package file comes from those bytes.
package dnf

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"
)

// Dnf is the provider.
type Dnf struct {
	// Memory of what was seen.
	Memory *packages.Memory
	// MaxAge is how long ago a repository may have been compared with its mirror, where its own metadata_expire says nothing.
	MaxAge time.Duration
	// Now is the clock.
	Now func() time.Time
	Library
}

var _ packages.Provider = (*Dnf)(nil)

// Present says whether this host has dnf 4, and packages that it installed: Debian has dnf too, to make other systems with.
func Present() bool {
	_, err := interpreter()
	if err != nil {
		return false
	}
	for _, database := range []string{"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages"} {
		if _, err := os.Stat(database); err == nil {
			return true
		}
	}
	return false
}

//go:embed report.py
var report string

// answer is what the script writes.
type answer struct {
	Repos   []repo     `json:"repos"`
	Updates []update   `json:"updates"`
	Kernels []existing `json:"kernels"`
	Core    []existing `json:"core"`
	// Duplicates are versions of one package that are installed beside each other, newest first.
	Duplicates [][]string `json:"duplicates"`
	Errors     []string   `json:"errors"`
}

type update struct {
	Name       string   `json:"name"`
	Arch       string   `json:"arch"`
	From       string   `json:"from"`
	To         string   `json:"to"`
	Chosen     bool     `json:"chosen"`
	Advisories []string `json:"advisories"`
	Security   bool     `json:"security"`
	Held       bool     `json:"held"`
}

type existing struct {
	Name    string `json:"name"`
	EVR     string `json:"evr"`
	Release string `json:"release"`
	At      int64  `json:"at"`
}

// ask asks for everything, or for the repositories only, which is much faster.
func (d *Dnf) ask(ctx context.Context, onlyRepositories bool) (*answer, error) {
	a := &answer{}
	return a, d.Ask(ctx, report, map[string]any{"kernels": kernelPackages, "core": corePackages, "only_repositories": onlyRepositories}, a)
}

// Watched are the database of packages and dnf's configuration. dnf's cache is not among them: asking dnf writes there.
func (d *Dnf) Watched() []string {
	var paths []string
	for _, path := range []string{"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages", "/etc/dnf", "/etc/yum.repos.d"} {
		paths = append(paths, filepath.Join("/", d.Root, path))
	}
	return paths
}

// Collect implements packages.Provider.
func (d *Dnf) Collect(ctx context.Context) (*packages.Inventory, error) {
	a, err := d.ask(ctx, false)
	if err != nil {
		return nil, err
	}
	status := &drydockv1.PackageStatus{State: &drydockv1.PartState{}, Manager: "dnf"}
	index := newIndex(a.Updates)
	var unknown error
	for _, text := range a.Errors {
		unknown = errors.Join(unknown, errors.New(text))
	}
	unverified, err := d.verifyAll(ctx, a, status, index)
	if err != nil {
		return nil, err
	}
	unknown = errors.Join(unknown, unverified)
	for _, u := range a.Updates {
		wire := &drydockv1.PackageUpdate{Name: u.Name, Arch: u.Arch, From: u.From, To: u.To, Security: u.Security, Advisories: u.Advisories, Held: u.Held}
		if !u.Chosen {
			wire.Blocked = []*drydockv1.Refusal{{
				Reason: "dnf keeps it back: it cannot be installed with the others", Remedy: "see `dnf upgrade --assumeno --best` on the host",
			}}
		}
		status.Updates = append(status.Updates, wire)
	}
	packages.Block(status.Updates, status.Sources, index.offers)
	for _, versions := range a.Duplicates {
		status.Problems = append(status.Problems, &drydockv1.Refusal{
			Reason: "an installation was interrupted: " + strings.Join(versions, " and ") + " are installed beside each other",
			Remedy: "patch the host, which repairs it, or run `dnf remove --duplicates` on it",
		})
	}
	if unknown != nil {
		status.State.Error = unknown.Error()
	}
	return a.inventory(status), nil
}

// verifyAll judges every repository, and reads its list of packages. unknown is why single ones could not be judged.
func (d *Dnf) verifyAll(ctx context.Context, a *answer, status *drydockv1.PackageStatus, into *index) (unknown, err error) {
	known, err := d.Memory.Read()
	if err != nil {
		return nil, err
	}
	for _, r := range a.Repos {
		s := r.source()
		if err := d.verify(ctx, r, s, known, into); err != nil {
			unknown = errors.Join(unknown, fmt.Errorf("repository %s: %w", r.ID, err))
			s.fault(drydockv1.MetadataFault_METADATA_FAULT_MISSING, "see that the agent can read it", "it could not be verified: %v", err)
		}
		status.Sources = append(status.Sources, s.wire)
	}
	return unknown, nil
}

// Judge does for updates by name, architecture and version what Collect does for those that it finds: it notes where they come
// from, the SHA-256 of their files, and why they must not be installed.
func (d *Dnf) Judge(ctx context.Context, updates []*drydockv1.PackageUpdate) error {
	a, err := d.ask(ctx, true)
	if err != nil {
		return err
	}
	index := &index{wanted: make(map[string]bool), found: make(map[string]map[string]rpm)}
	for _, u := range updates {
		index.wanted[u.Name] = true
	}
	status := &drydockv1.PackageStatus{}
	unknown, err := d.verifyAll(ctx, a, status, index)
	if err != nil {
		return err
	}
	packages.Block(updates, status.Sources, index.offers)
	return unknown
}

func (a *answer) inventory(status *drydockv1.PackageStatus) *packages.Inventory {
	inventory := &packages.Inventory{Status: status}
	for _, k := range a.Kernels {
		inventory.Kernels = append(inventory.Kernels, &drydockv1.Kernel{Release: k.Release, Package: k.Name, Version: k.EVR})
	}
	for _, u := range a.Updates {
		if k := KernelOf(u.Name, u.To, u.Arch); k != nil {
			inventory.Available = k
		}
	}
	for _, c := range a.Core {
		inventory.Core = append(inventory.Core, packages.Installed{Name: c.Name, Version: c.EVR, At: time.Unix(c.At, 0)})
	}
	return inventory
}

// Refresh fetches every repository's metadata, each by itself: one that fails keeps what it had, and has its failure remembered.
func (d *Dnf) Refresh(ctx context.Context) error {
	a, err := d.ask(ctx, true)
	if err != nil {
		return err
	}
	failures, now := make(map[string]packages.Failure), d.Now()
	for _, r := range a.Repos {
		args := []string{"-q", "-y", "--refresh", "--repo", r.ID, "--setopt=" + r.ID + ".skip_if_unavailable=0"}
		if d.Root != "" {
			args = append(args, "--config", d.Config, "--installroot", d.Root, "--releasever", d.Release)
		}
		cmd := exec.CommandContext(ctx, "dnf", append(args, "makecache")...)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil {
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				return fmt.Errorf("dnf makecache: %w", err)
			}
			failures[r.key()] = packages.Failure{Text: strings.TrimPrefix(lastLine(string(out)), "Error: "), Had: changed(r.list())}
		}
	}
	return d.Memory.Update(func(known *packages.Remembered) bool {
		known.Refreshed, known.Failures = now, failures
		for _, r := range a.Repos {
			if failures[r.key()].Text == "" {
				known.Confirmed[r.key()] = now
			}
		}
		return true
	})
}
