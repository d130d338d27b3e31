// Package packages tells which packages of a host have updates, from where, and whether the metadata that says so may be
// believed. Nothing is offered for installation from metadata that is unsigned, wrongly signed, expired, changed after it was
// signed, older than what was seen before, or not compared with its archive for too long: such updates are listed as
// blocked, with the reason and what would remove it.
//
// A package manager is a Provider; apt and dnf lie below.
package packages

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

// Provider is a package manager of the host.
type Provider interface {
	// Collect reads what is installed and what the sources offer, as far as it lies on the host, and verifies it. It changes
	// nothing but the memory of what was seen, and asks no network.
	Collect(ctx context.Context) (*Inventory, error)
	// Refresh asks the sources for what is new. What goes wrong with single sources is remembered, and theirs in what Collect
	// answers; the error is of what keeps all of it from being done.
	Refresh(ctx context.Context) error
	// Watched are the files, and the directories with files, that change when Collect's answer does, but not because of it.
	Watched() []string
}

// Inventory is what a Provider finds.
type Inventory struct {
	Status *drydockv1.PackageStatus
	// Kernels are those installed, newest first.
	Kernels []*drydockv1.Kernel
	// Available is the newest kernel among the updates, or nil.
	Available *drydockv1.Kernel
	// Core are the installed packages that only a boot replaces everywhere.
	Core []Installed
}

// Installed is a package on the host.
type Installed struct {
	Name, Version string
	// At is when it was installed or upgraded last.
	At time.Time
}

// Problem is one thing that is wrong with a source.
func Problem(fault drydockv1.MetadataFault, remedy, format string, args ...any) *drydockv1.MetadataProblem {
	return &drydockv1.MetadataProblem{Fault: fault, Reason: fmt.Sprintf(format, args...), Remedy: remedy}
}

// Block notes on every update why it must not be installed, where a source that offers it has a problem. offers tells the
// SHA-256 of the package file that each source has for the update, by the source's id.
func Block(updates []*drydockv1.PackageUpdate, sources []*drydockv1.PackageSource, offers func(*drydockv1.PackageUpdate) map[string]string) {
	byID := make(map[string]*drydockv1.PackageSource, len(sources))
	for _, s := range sources {
		byID[s.Id] = s
	}
	for _, u := range updates {
		offered := offers(u)
		sound := ""
		for _, id := range sortedIDs(offered) {
			u.Sources = append(u.Sources, id)
			if len(byID[id].GetProblems()) == 0 && sound == "" {
				sound = offered[id]
				u.Origin = originOf(byID[id])
			}
		}
		u.Sha256 = sound
		if len(offered) == 0 {
			u.Blocked = append(u.Blocked, &drydockv1.Refusal{
				Reason: fmt.Sprintf("no index that lies here offers %s %s", u.Name, u.To),
				Remedy: "refresh the host's package lists: `drydock status HOST --refresh`",
			})
			continue
		}
		u.Origin = cmp.Or(u.Origin, originOf(byID[u.Sources[0]]))
		for _, id := range u.Sources {
			// The same file from a sound source is the same file; its hash is checked when it is fetched.
			if p := byID[id].GetProblems(); len(p) > 0 && offered[id] != sound {
				u.Blocked = append(u.Blocked, &drydockv1.Refusal{Reason: "source " + id + ": " + p[0].Reason, Remedy: p[0].Remedy})
			}
		}
	}
}

func sortedIDs(offered map[string]string) []string {
	ids := make([]string, 0, len(offered))
	for id := range offered {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func originOf(s *drydockv1.PackageSource) string {
	return strings.Trim(cmp.Or(s.GetLabel(), s.GetOrigin())+"/"+cmp.Or(s.GetSuite(), s.GetCodename()), "/")
}
