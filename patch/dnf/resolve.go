package dnf

import (
	"cmp"
	"context"
	_ "embed"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
	"drydock/status/packages/dnf"
)

//go:embed resolve.py
var resolveScript string

// resolved is what dnf would do.
type resolved struct {
	Items []struct {
		pin
		From     string `json:"from"`
		Size     int64  `json:"size"`
		Was      int64  `json:"was"`
		NeededBy string `json:"needed_by"`
	} `json:"items"`
	Removed []string `json:"removed"`
	Newest  *pin     `json:"newest"`
	Problem string   `json:"problem"`
}

// Resolve implements patch.Installer.
func (d *Dnf) Resolve(ctx context.Context, wanted, known []*drydockv1.PackageUpdate) (*patch.Resolution, error) {
	res := &patch.Resolution{}
	var pins []pin
	for _, u := range wanted {
		pins = append(pins, pin{Name: u.Name, Arch: u.Arch, EVR: u.To})
		for _, b := range u.Blocked {
			res.Refusals = append(res.Refusals, patch.Refusal(b.Remedy+", or hold "+u.Name+" in the pool's `patch.hold`", "%s %s: %s", u.Name, u.To, b.Reason))
		}
	}
	if len(res.Refusals) > 0 {
		return res, nil // dnf would say no more of them
	}
	var r resolved
	if err := d.Ask(ctx, resolveScript, map[string]any{"wanted": pins, "kernels": dnf.KernelPackages()}, &r); err != nil {
		return nil, err
	}
	if r.Problem != "" {
		return nil, patch.Refuse("see `dnf upgrade --assumeno --best` on the host", "dnf cannot install the patch: %s", strings.Join(strings.Fields(r.Problem), " "))
	}
	for _, name := range r.Removed {
		res.Refusals = append(res.Refusals, patch.Refusal("hold what needs it removed in the pool's `patch.hold`, or do it by hand", "dnf would remove %s, and a patch removes nothing", name))
	}
	updates, err := d.verified(ctx, r, known)
	if err != nil {
		return nil, err
	}
	var largest int64
	for i, u := range updates {
		pinned, refusals := d.pinned(u, because(u, r.Items[i].NeededBy))
		res.Packages, res.Refusals = append(res.Packages, pinned), append(res.Refusals, refusals...)
		res.DiskBytes += max(0, r.Items[i].Size-r.Items[i].Was)
		largest = max(largest, r.Items[i].Was)
		if k := dnf.KernelOf(u.Name, u.To, u.Arch); k != nil {
			res.Kernels = append(res.Kernels, k)
		}
		if dnf.IsCore(u.Name) {
			res.Core = append(res.Core, u.Name)
		}
	}
	res.DiskBytes += largest
	if r.Newest != nil {
		res.Newest = dnf.KernelOf(r.Newest.Name, r.Newest.EVR, r.Newest.Arch)
	}
	return res, nil
}

// verified are the packages that dnf would install with what verified metadata says of them.
func (d *Dnf) verified(ctx context.Context, r resolved, known []*drydockv1.PackageUpdate) ([]*drydockv1.PackageUpdate, error) {
	var all, unknown []*drydockv1.PackageUpdate
	for _, item := range r.Items {
		at := slices.IndexFunc(known, func(k *drydockv1.PackageUpdate) bool {
			return k.Name == item.Name && k.Arch == item.Arch && k.To == item.EVR
		})
		if at >= 0 {
			all = append(all, known[at])
			continue
		}
		u := &drydockv1.PackageUpdate{Name: item.Name, Arch: item.Arch, From: item.From, To: item.EVR}
		all, unknown = append(all, u), append(unknown, u)
	}
	if len(unknown) == 0 {
		return all, nil
	}
	return all, d.Judge.Judge(ctx, unknown)
}

// pinned is an update as part of a patch, and what is against it.
func (d *Dnf) pinned(u *drydockv1.PackageUpdate, why string) (*drydockv1.PinnedPackage, []*drydockv1.Refusal) {
	var refusals []*drydockv1.Refusal
	for _, b := range u.Blocked {
		refusals = append(refusals, patch.Refusal(b.Remedy, "%s %s: %s", u.Name, u.To, b.Reason))
	}
	if u.Held {
		refusals = append(refusals, patch.Refusal(d.Remedies().Unhold(u.Name)+", or hold what needs it in the pool",
			"%s is held by the host's administrator, and %s", u.Name, why))
	}
	return &drydockv1.PinnedPackage{
		Name: u.Name, Arch: u.Arch, From: u.From, To: u.To, Security: u.Security, Reason: why,
		Origin: u.Origin, Sha256: u.Sha256, DownloadBytes: u.DownloadBytes,
	}, refusals
}

// because is why a package is part of the patch.
func because(u *drydockv1.PackageUpdate, neededBy string) string {
	switch {
	case len(u.Advisories) > 0:
		return "fixes " + strings.Join(u.Advisories, ", ")
	case u.Security:
		return "a security update"
	case neededBy != "":
		return neededBy + " needs it"
	}
	return cmp.Or(map[bool]string{true: "another package of the patch needs it"}[u.From == ""], "a newer version")
}
