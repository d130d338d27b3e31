package apt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"
)

// installed is a package that dpkg has installed.
type installed struct {
	name, arch, version       string
	sourceName, sourceVersion string
	held                      bool
	// list is the file in which dpkg keeps the package's files, below its directory.
	list string
}

// query is the name under which apt and dpkg know the package, whatever the host's own architecture is.
func (p installed) query() string {
	if p.arch == "all" {
		return p.name
	}
	return p.name + ":" + p.arch
}

func (a *Apt) installed(ctx context.Context, p paths) ([]installed, error) {
	const format = `${Package}|${Architecture}|${Version}|${source:Package}|${source:Version}|${db:Status-Want}|${db:Status-Status}|${binary:Package}\n`
	out, err := a.dpkgQuery(ctx, p, format)
	if err != nil {
		return nil, err
	}
	var list []installed
	for line := range strings.Lines(out) {
		part := strings.Split(strings.TrimSpace(line), "|")
		if len(part) != 8 || part[6] != "installed" {
			continue
		}
		list = append(list, installed{
			name: part[0], arch: part[1], version: part[2], sourceName: part[3], sourceVersion: part[4],
			held: part[5] == "hold", list: part[7] + ".list",
		})
	}
	return list, nil
}

// updates are the packages for which apt, with the host's pins, would choose a newer version, and those that it would add.
func (a *Apt) updates(ctx context.Context, list []installed) ([]*drydockv1.PackageUpdate, error) {
	if len(list) == 0 {
		return nil, nil
	}
	native, err := a.run(ctx, "dpkg", "--print-architecture")
	if err != nil {
		return nil, err
	}
	native = strings.TrimSpace(native)
	candidates, err := a.candidates(ctx, list, native)
	if err != nil {
		return nil, err
	}
	// Without removals: what would need one is for an operator to decide.
	out, err := a.run(ctx, "apt-get", "-s", "-o", "Debug::NoLocking=yes", "-o", "APT::Get::Show-User-Simulation-Note=no", "--with-new-pkgs", "upgrade")
	if err != nil {
		return nil, fmt.Errorf("ask apt what it would install: %w; run `apt-get check` on the host", err)
	}
	chosen := parseSimulation(out, native)
	var updates []*drydockv1.PackageUpdate
	for _, p := range list {
		to := candidates[p.query()]
		if to == "" || to == "(none)" || Compare(to, p.version) <= 0 {
			continue
		}
		u := &drydockv1.PackageUpdate{Name: p.name, Arch: p.arch, From: p.version, To: to, Held: p.held}
		key := p.name + ":" + chosenArch(p.arch, native)
		if _, ok := chosen[key]; !ok && !p.held {
			u.Blocked = append(u.Blocked, &drydockv1.Refusal{
				Reason: "apt keeps it back: it would remove another package, or cannot be installed with the others",
				Remedy: "see `apt-get -s dist-upgrade` on the host",
			})
		}
		delete(chosen, key)
		updates = append(updates, u)
	}
	for key, v := range chosen {
		name, arch, _ := strings.Cut(key, ":")
		updates = append(updates, &drydockv1.PackageUpdate{Name: name, Arch: arch, From: v.from, To: v.to})
	}
	slices.SortFunc(updates, func(x, y *drydockv1.PackageUpdate) int {
		return strings.Compare(x.Name+":"+x.Arch, y.Name+":"+y.Arch)
	})
	return updates, nil
}

// chosenArch is how apt names the architecture of a package in a simulation once parseSimulation has filled in the host's own.
func chosenArch(arch, native string) string {
	if arch == "all" {
		return native
	}
	return arch
}

// candidates are the versions that apt would choose, by query.
func (a *Apt) candidates(ctx context.Context, list []installed, native string) (map[string]string, error) {
	args := []string{"policy"}
	for _, p := range list {
		args = append(args, p.query())
	}
	out, err := a.run(ctx, "apt-cache", args...)
	if err != nil {
		return nil, err
	}
	byHeading := make(map[string]string)
	heading := ""
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' {
			heading = strings.TrimSuffix(line, ":")
		} else if value, found := strings.CutPrefix(line, "  Candidate: "); found {
			byHeading[heading] = value
		}
	}
	found := make(map[string]string)
	for _, p := range list {
		if value, ok := byHeading[p.query()]; ok {
			found[p.query()] = value
		} else if p.arch == native {
			found[p.query()] = byHeading[p.name]
		}
	}
	return found, nil
}

// change is one step of a simulation.
type change struct{ from, to string }

var simulated = regexp.MustCompile(`(?m)^Inst (\S+) (?:\[(\S+)\] )?\((\S+) .*\[(\S+)\]\)`)

// parseSimulation reads what apt-get -s would install, by name and architecture.
func parseSimulation(out, native string) map[string]change {
	chosen := make(map[string]change)
	for _, m := range simulated.FindAllStringSubmatch(out, -1) {
		name, _, _ := strings.Cut(m[1], ":")
		chosen[name+":"+chosenArch(m[4], native)] = change{from: m[2], to: m[3]}
	}
	return chosen
}

var kernelImage = regexp.MustCompile(`^linux-image-(?:unsigned-)?([0-9].*)$`)

// KernelOf is the kernel that a package holds, or nil.
func KernelOf(name, version string) *drydockv1.Kernel {
	m := kernelImage.FindStringSubmatch(name)
	if m == nil || strings.HasSuffix(name, "-dbg") || strings.HasSuffix(name, "-dbgsym") {
		return nil
	}
	return &drydockv1.Kernel{Release: m[1], Package: name, Version: version}
}

func kernels(list []installed, updates []*drydockv1.PackageUpdate) (have []*drydockv1.Kernel, available *drydockv1.Kernel) {
	for _, p := range list {
		if k := KernelOf(p.name, p.version); k != nil {
			have = append(have, k)
		}
	}
	slices.SortFunc(have, func(x, y *drydockv1.Kernel) int { return Compare(y.Version, x.Version) })
	for _, u := range updates {
		if k := KernelOf(u.Name, u.To); k != nil && (available == nil || Compare(k.Version, available.Version) > 0) {
			available = k
		}
	}
	return have, available
}

var corePackage = regexp.MustCompile(`^(libc6|systemd|dbus|dbus-daemon|dbus-broker|intel-microcode|amd64-microcode|firmware-.*|linux-firmware)$`)

// IsCore says whether a package runs from the boot on, in every process or below them all, so that only a boot replaces it.
func IsCore(name string) bool { return corePackage.MatchString(name) }

// core are such packages among those installed.
func core(list []installed, p paths) []packages.Installed {
	var found []packages.Installed
	for _, pkg := range list {
		if !IsCore(pkg.name) {
			continue
		}
		// dpkg writes a package's list of files anew whenever it unpacks it.
		if stat, err := os.Stat(filepath.Join(p.admin, "info", pkg.list)); err == nil {
			found = append(found, packages.Installed{Name: pkg.name, Version: pkg.version, At: stat.ModTime()})
		}
	}
	return found
}
