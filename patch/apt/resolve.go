package apt

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
	"drydock/status/packages/apt"
)

// Resolve implements patch.Installer.
func (a *Apt) Resolve(ctx context.Context, wanted, known []*drydockv1.PackageUpdate) (*patch.Resolution, error) {
	res := &patch.Resolution{}
	for _, u := range wanted {
		for _, b := range u.Blocked {
			res.Refusals = append(res.Refusals, patch.Refusal(b.Remedy+", or hold "+u.Name+" in the pool's `patch.hold`", "%s %s: %s", u.Name, u.To, b.Reason))
		}
	}
	if len(res.Refusals) > 0 {
		return res, nil // apt would say no more of them
	}
	sim, err := a.simulation(ctx, pins(wanted))
	if err != nil {
		return nil, err
	}
	updates, err := a.verified(ctx, sim, known)
	if err != nil {
		return nil, err
	}
	shown, err := a.show(ctx, updates)
	if err != nil {
		return nil, err
	}
	for _, name := range sim.removed {
		res.Refusals = append(res.Refusals, patch.Refusal("hold what needs it removed in the pool's `patch.hold`, or do it by hand", "apt would remove %s, and a patch removes nothing", name))
	}
	for _, u := range updates {
		pinned, refusals := pin(u, because(u, updates, shown))
		res.Packages, res.Refusals = append(res.Packages, pinned), append(res.Refusals, refusals...)
	}
	p, err := a.paths(ctx)
	if err != nil {
		return nil, err
	}
	all, err := a.database(ctx, p)
	if err != nil {
		return nil, err
	}
	res.Kernels, res.Newest, res.Core = kernels(updates), newestKernel(all, updates), core(updates)
	res.DiskBytes = growth(all, updates, shown)
	return res, nil
}

// pin is an update as part of a patch, and what is against it.
func pin(u *drydockv1.PackageUpdate, why string) (*drydockv1.PinnedPackage, []*drydockv1.Refusal) {
	var refusals []*drydockv1.Refusal
	for _, b := range u.Blocked {
		refusals = append(refusals, patch.Refusal(b.Remedy, "%s %s: %s", u.Name, u.To, b.Reason))
	}
	if u.Held {
		refusals = append(refusals, patch.Refusal("run `apt-mark unhold "+u.Name+"` on the host, or hold what needs it in the pool",
			"%s is held by the host's administrator, and %s", u.Name, why))
	}
	return &drydockv1.PinnedPackage{
		Name: u.Name, Arch: u.Arch, From: u.From, To: u.To, Security: u.Security, Reason: why,
		Origin: u.Origin, Sha256: u.Sha256, DownloadBytes: u.DownloadBytes,
	}, refusals
}

// pins name packages at exactly their versions, as apt-get takes them.
func pins(updates []*drydockv1.PackageUpdate) []string {
	var list []string
	for _, u := range updates {
		name := u.Name
		if u.Arch != "all" {
			name += ":" + u.Arch
		}
		list = append(list, name+"="+u.To)
	}
	return list
}

// simulation is what apt would do.
type simulation struct {
	installed []*drydockv1.PackageUpdate
	removed   []string
}

// The lines of a simulation that are made for programs, see apt-get(8): Inst name [from] (to origin... [arch]) and Remv name [from].
var (
	installs = regexp.MustCompile(`(?m)^Inst (\S+) (?:\[(\S+)\] )?\((\S+) .*?\[(\S+)\]\)`)
	removes  = regexp.MustCompile(`(?m)^Remv (\S+)`)
)

// simulation asks apt what installing would do: package names with versions, or paths of package files.
func (a *Apt) simulation(ctx context.Context, what []string) (simulation, error) {
	out, err := a.run(ctx, "apt-get", slices.Concat(simulate, []string{"install"}, what)...)
	var failed *failure
	if errors.As(err, &failed) && ctx.Err() == nil {
		return simulation{}, patch.Refuse("see `apt-get -s install "+strings.Join(what, " ")+"` on the host", "apt cannot install the patch: %s", failed.words())
	}
	if err != nil {
		return simulation{}, err
	}
	var sim simulation
	for _, m := range installs.FindAllStringSubmatch(out, -1) {
		name, _, _ := strings.Cut(m[1], ":")
		sim.installed = append(sim.installed, &drydockv1.PackageUpdate{Name: name, Arch: m[4], From: m[2], To: m[3]})
	}
	for _, m := range removes.FindAllStringSubmatch(out, -1) {
		sim.removed = append(sim.removed, m[1])
	}
	return sim, nil
}

// verified are the packages of a simulation with what verified metadata says of them.
func (a *Apt) verified(ctx context.Context, sim simulation, known []*drydockv1.PackageUpdate) ([]*drydockv1.PackageUpdate, error) {
	var all, unknown []*drydockv1.PackageUpdate
	for _, u := range sim.installed {
		at := slices.IndexFunc(known, func(k *drydockv1.PackageUpdate) bool {
			return k.Name == u.Name && k.To == u.To && (k.Arch == u.Arch || k.Arch == "all")
		})
		if at >= 0 {
			all = append(all, known[at])
			continue
		}
		all, unknown = append(all, u), append(unknown, u)
	}
	if len(unknown) == 0 {
		return all, nil
	}
	return all, a.Judge.Judge(ctx, unknown)
}

// fields are those of a package's version that matter here.
type fields struct {
	depends string
	kib     int64
	arch    string
}

// show asks apt for what it knows of versions, by name and version.
func (a *Apt) show(ctx context.Context, updates []*drydockv1.PackageUpdate) (map[string]fields, error) {
	shown := make(map[string]fields)
	if len(updates) == 0 {
		return shown, nil
	}
	out, err := a.run(ctx, "apt-cache", append([]string{"show", "--no-all-versions"}, pins(updates)...)...)
	if err != nil {
		return nil, err
	}
	for stanza := range strings.SplitSeq(out, "\n\n") {
		values := make(map[string]string)
		for line := range strings.Lines(stanza) {
			if key, value, found := strings.Cut(strings.TrimRight(line, "\n"), ": "); found && key != "" && key[0] != ' ' {
				values[key] = value
			}
		}
		kib, _ := strconv.ParseInt(values["Installed-Size"], 10, 64)
		shown[values["Package"]+"="+values["Version"]] = fields{depends: values["Pre-Depends"] + ", " + values["Depends"] + ", " + values["Recommends"], kib: kib, arch: values["Architecture"]}
	}
	return shown, nil
}

// because is why a package is part of the patch.
func because(u *drydockv1.PackageUpdate, all []*drydockv1.PackageUpdate, shown map[string]fields) string {
	if len(u.Advisories) > 0 {
		return "fixes " + strings.Join(u.Advisories, ", ")
	}
	if u.Security {
		return "a security update"
	}
	for _, other := range all {
		for need := range strings.FieldsFuncSeq(shown[other.Name+"="+other.To].depends, func(c rune) bool { return c == ',' || c == '|' }) {
			if name, _, _ := strings.Cut(strings.TrimSpace(need), " "); other != u && strings.TrimSuffix(name, ":any") == u.Name {
				return fmt.Sprintf("%s %s needs it", other.Name, other.To)
			}
		}
	}
	if u.From == "" {
		return "another package of the patch needs it"
	}
	return "a newer version"
}

// growth is how much more room the packages take at the worst moment: all of them new, and the largest of the old ones still there.
func growth(all []have, updates []*drydockv1.PackageUpdate, shown map[string]fields) int64 {
	var grows, largest int64
	for _, u := range updates {
		before, _ := of(all, &drydockv1.PinnedPackage{Name: u.Name, Arch: u.Arch})
		was, _ := strconv.ParseInt(before.kib, 10, 64)
		grows += max(0, shown[u.Name+"="+u.To].kib-was)
		largest = max(largest, was)
	}
	return (grows + largest) << 10
}

// kernels are those that updates bring, newest first.
func kernels(updates []*drydockv1.PackageUpdate) []*drydockv1.Kernel {
	var found []*drydockv1.Kernel
	for _, u := range updates {
		if k := apt.KernelOf(u.Name, u.To); k != nil {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, func(x, y *drydockv1.Kernel) int { return apt.Compare(y.Version, x.Version) })
	return found
}

// newestKernel is the newest of those that are installed and those that updates bring.
func newestKernel(all []have, updates []*drydockv1.PackageUpdate) *drydockv1.Kernel {
	later := slices.Clone(updates)
	for _, h := range all {
		if h.state == "installed" {
			later = append(later, &drydockv1.PackageUpdate{Name: h.name, To: h.version})
		}
	}
	if sorted := kernels(later); len(sorted) > 0 {
		return sorted[0]
	}
	return nil
}

func core(updates []*drydockv1.PackageUpdate) []string {
	var found []string
	for _, u := range updates {
		if apt.IsCore(u.Name) {
			found = append(found, u.Name)
		}
	}
	return found
}
