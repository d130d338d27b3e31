// Package apt is the Provider of Debian's package manager. It asks apt and dpkg what is installed and what would be
// installed, with the host's own configuration, pins and holds; it has apt's own method verify every Release file, and
// compares every index with the hash that the verified file has for it, while it reads it: what it tells of a version comes
// from those bytes.
package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"
)

// Apt is the provider.
type Apt struct {
	// Memory of what was seen.
	Memory *packages.Memory
	// MaxAge is how long ago a source may have been compared with its archive.
	MaxAge time.Duration
	// Now is the clock.
	Now func() time.Time
	// Config is a configuration file that takes the place of the host's /etc/apt; empty: the host's.
	Config string
	// Advisories is a directory with the distribution's lists of advisories: see advisories.go. It may be missing.
	Advisories string
}

var _ packages.Provider = (*Apt)(nil)

// Present says whether this host has apt, and packages that it installed: other systems may have it to make Debian's with.
func Present() bool {
	_, err := exec.LookPath("apt-get")
	stat, serr := os.Stat("/var/lib/dpkg/status")
	return err == nil && serr == nil && stat.Size() > 0
}

// paths are where apt has its things.
type paths struct{ lists, admin, methods, archives, etc string }

func (a *Apt) paths(ctx context.Context) (paths, error) {
	out, err := a.run(ctx, "apt-config", "shell", "lists", "Dir::State::lists/d", "status", "Dir::State::status/f",
		"methods", "Dir::Bin::methods/d", "archives", "Dir::Cache::archives/d", "etc", "Dir::Etc/d")
	if err != nil {
		return paths{}, err
	}
	values := make(map[string]string)
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = strings.Trim(value, "'")
	}
	return paths{
		lists: values["lists"], admin: filepath.Dir(values["status"]), methods: values["methods"], archives: values["archives"], etc: values["etc"],
	}, nil
}

// run returns what a command writes, or its words as an error. A pin, hold or source that apt warns of is no error.
func (a *Apt) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := a.command(ctx, name, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

func (a *Apt) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if a.Config != "" {
		cmd.Env = append(cmd.Env, "APT_CONFIG="+a.Config)
	}
	return cmd
}

// Watched are apt's lists and configuration, and what dpkg has installed.
func (a *Apt) Watched() []string {
	p, err := a.paths(context.Background())
	if err != nil {
		return nil
	}
	return []string{filepath.Join(p.admin, "status"), p.lists, p.etc, filepath.Join(p.etc, "sources.list.d"), filepath.Join(p.etc, "preferences.d"), filepath.Join(p.etc, "trusted.gpg.d")}
}

// Collect implements packages.Provider.
func (a *Apt) Collect(ctx context.Context) (*packages.Inventory, error) {
	p, err := a.paths(ctx)
	if err != nil {
		return nil, err
	}
	installed, err := a.installed(ctx, p)
	if err != nil {
		return nil, err
	}
	status := &drydockv1.PackageStatus{State: &drydockv1.PartState{}, Manager: "apt"}
	if status.Problems, err = a.interrupted(ctx, p); err != nil {
		return nil, err
	}
	var unknown error
	updates, err := a.updates(ctx, installed)
	unknown = errors.Join(unknown, err)
	var jerr error
	if status.Sources, jerr, err = a.judge(ctx, p, installed, updates); err != nil {
		return nil, err
	}
	unknown = errors.Join(unknown, jerr)
	status.Updates = updates
	if unknown != nil {
		status.State.Error = unknown.Error()
	}
	inventory := &packages.Inventory{Status: status}
	inventory.Kernels, inventory.Available = kernels(installed, updates)
	inventory.Core = core(installed, p)
	return inventory, nil
}

// judge notes on updates where they come from and why they must not be installed. unknown is what is not known of single
// sources and advisories.
func (a *Apt) judge(ctx context.Context, p paths, list []installed, updates []*drydockv1.PackageUpdate) (wire []*drydockv1.PackageSource, unknown, err error) {
	sources, err := a.sources(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	index := newIndex(list, updates)
	unknown = a.verify(ctx, p, sources, index)
	for _, s := range sources {
		wire = append(wire, s.wire)
	}
	packages.Block(updates, wire, index.offers)
	index.classify(updates)
	return wire, errors.Join(unknown, a.advise(ctx, p, updates, wire, index)), nil
}

// Judge does for updates by name, architecture and version what Collect does for those that it finds: it notes where they come
// from, the SHA-256 of their files as the verified metadata has it, and why they must not be installed.
func (a *Apt) Judge(ctx context.Context, updates []*drydockv1.PackageUpdate) error {
	p, err := a.paths(ctx)
	if err != nil {
		return err
	}
	_, unknown, err := a.judge(ctx, p, nil, updates)
	return errors.Join(unknown, err)
}

// interrupted says what a dpkg that was stopped half-way left.
func (a *Apt) interrupted(ctx context.Context, p paths) ([]*drydockv1.Refusal, error) {
	const remedy = "run `dpkg --configure -a` on the host, then `apt-get -f install`"
	var found []*drydockv1.Refusal
	out, err := a.dpkgQuery(ctx, p, `${db:Status-Status}|${db:Status-Eflag}|${binary:Package}\n`)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(out) {
		part := strings.Split(strings.TrimSpace(line), "|")
		if len(part) == 3 && (part[1] != "ok" || !slices.Contains([]string{"installed", "config-files", "not-installed"}, part[0])) {
			names = append(names, part[2]+" ("+part[0]+")")
		}
	}
	if len(names) > 0 {
		found = append(found, &drydockv1.Refusal{Reason: "dpkg was stopped half-way with " + strings.Join(names, ", "), Remedy: remedy})
	}
	journal, err := filepath.Glob(filepath.Join(p.admin, "updates", "[0-9]*"))
	if len(journal) > 0 {
		found = append(found, &drydockv1.Refusal{Reason: "dpkg was stopped half-way: its journal is not empty", Remedy: remedy})
	}
	return found, err
}

func (a *Apt) dpkgQuery(ctx context.Context, p paths, format string) (string, error) {
	out, err := a.run(ctx, "dpkg-query", "--admindir="+p.admin, "-W", "-f", format)
	if err != nil && strings.Contains(err.Error(), "no packages found") {
		return "", nil
	}
	return out, err
}
