package patch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// What a policy asks for.
const (
	Security = "security"
	All      = "all"
	Named    = "packages"
)

// Resolve turns a policy into an exact list of package versions, and changes nothing.
func (h *Host) Resolve(ctx context.Context, policy *drydockv1.PatchPolicy, refresh bool) (*drydockv1.ResolveResponse, error) {
	installer, err := h.installer()
	if err != nil {
		return refusing(err)
	}
	if what := policy.GetWhat(); what != Security && what != All && what != Named {
		return nil, fmt.Errorf("policy asks for %q: %s, %s and %s are known", what, Security, All, Named)
	}
	status, err := h.cfg.Look(ctx, refresh)
	if err != nil {
		return refusing(err)
	}
	res := &drydockv1.ResolveResponse{Patch: &drydockv1.Patch{}, Refusals: unsound(status.GetPackages())}
	if len(res.Refusals) > 0 {
		return res, nil
	}
	wanted, left := choose(policy, status.Packages.Updates, installer.Remedies())
	res.Patch.Left = left
	found := &Resolution{}
	if len(wanted) > 0 {
		if found, err = installer.Resolve(ctx, wanted, status.Packages.Updates); err != nil {
			var refused *Refused
			if errors.As(err, &refused) {
				res.Refusals = refused.Reasons
				return res, nil
			}
			return nil, err
		}
	} else {
		// An installation repairs what an earlier one left half-way. Where nothing is installed, nothing is repaired.
		res.Refusals = append(res.Refusals, status.Packages.Problems...)
	}
	return res, h.describe(ctx, installer, res, found, policy, status)
}

// refusing answers with the reasons of an error that somebody can remove.
func refusing(err error) (*drydockv1.ResolveResponse, error) {
	var refused *Refused
	if errors.As(err, &refused) {
		return &drydockv1.ResolveResponse{Patch: &drydockv1.Patch{}, Refusals: refused.Reasons}, nil
	}
	return nil, err
}

// unsound says what is wrong with the metadata as a whole. One source that cannot be believed is enough: what it would offer is
// not known, and might be the fix that the patch is for.
func unsound(p *drydockv1.PackageStatus) []*drydockv1.Refusal {
	var reasons []*drydockv1.Refusal
	if text := p.GetState().GetError(); text != "" || p == nil {
		reasons = append(reasons, Refusal("see `drydock status HOST`", "the host's packages are not known: %s", text))
	}
	for _, s := range p.GetSources() {
		for _, problem := range s.Problems {
			reasons = append(reasons, Refusal(problem.Remedy, "source %s: %s", s.Id, problem.Reason))
		}
	}
	return reasons
}

// choose picks the updates that a policy asks for. Those of packages that are not installed yet come with the ones that need them.
func choose(policy *drydockv1.PatchPolicy, updates []*drydockv1.PackageUpdate, remedies Remedies) (wanted []*drydockv1.PackageUpdate, left []*drydockv1.Refusal) {
	for _, u := range updates {
		switch {
		case u.From == "":
		case policy.What == Security && !u.Security, policy.What == Named && !slices.Contains(policy.Packages, u.Name):
		case slices.Contains(policy.Hold, u.Name):
			left = append(left, Refusal("remove it from the pool's `patch.hold`", "%s stays at %s, below %s: the pool holds it", u.Name, u.From, u.To))
		case u.Held:
			left = append(left, Refusal(remedies.Unhold(u.Name), "%s stays at %s, below %s: the host's administrator holds it", u.Name, u.From, u.To))
		default:
			wanted = append(wanted, u)
		}
	}
	return wanted, left
}

// describe says what a patch would do to the host, and what is in its way.
func (h *Host) describe(ctx context.Context, installer Installer, res *drydockv1.ResolveResponse, found *Resolution, policy *drydockv1.PatchPolicy, status *drydockv1.HostStatus) error {
	p := res.Patch
	p.Packages, res.Refusals = found.Packages, append(res.Refusals, found.Refusals...)
	slices.SortFunc(p.Packages, func(a, b *drydockv1.PinnedPackage) int {
		return strings.Compare(a.Name+":"+a.Arch, b.Name+":"+b.Arch)
	})
	for _, pkg := range p.Packages {
		p.DownloadBytes += pkg.DownloadBytes
		if slices.Contains(policy.Hold, pkg.Name) {
			res.Refusals = append(res.Refusals, Refusal("remove it from the pool's `patch.hold`, or hold what needs it too",
				"the pool holds %s, and %s", pkg.Name, pkg.Reason))
		}
	}
	h.reboots(p, found, status)
	untriable, err := h.triable(ctx, p.Kernel)
	if err != nil {
		return err
	}
	res.Refusals = append(res.Refusals, untriable...)
	if len(p.Packages) == 0 {
		return nil
	}
	files, err := installer.Files(ctx, p)
	if err != nil {
		return err
	}
	if p.RestartsPods, err = h.cfg.Users(ctx, files); err != nil {
		return err
	}
	archives, err := installer.Archives(ctx)
	if err != nil {
		return err
	}
	missing, err := h.room(p, found, status.GetKernel(), archives, installer.Remedies())
	res.Refusals = append(res.Refusals, missing...)
	return err
}

// reboots notes why a patch asks for a reboot, and which kernel runs after it.
func (h *Host) reboots(p *drydockv1.Patch, found *Resolution, status *drydockv1.HostStatus) {
	for _, reason := range status.GetReboot().GetReasons() {
		p.RebootReasons = append(p.RebootReasons, reason.Text)
	}
	if len(found.Core) > 0 {
		p.RebootReasons = append(p.RebootReasons, strings.Join(found.Core, ", ")+" is replaced, which only a boot does everywhere")
	}
	kernel, brought := h.kernelAfter(found, status.GetKernel())
	if brought != nil {
		p.RebootReasons = append(p.RebootReasons, fmt.Sprintf("kernel %s (%s) is installed, %s runs", brought.Release, brought.Version, status.GetKernel().GetRunning()))
	}
	p.Kernel, p.RebootRequired = kernel, len(p.RebootReasons) > 0
}

// kernelAfter is the kernel that runs after a reboot, where it is another one; brought is set where the patch brings it. Where the
// kernel that runs is of none of the host's packages, what is booted is decided elsewhere.
func (h *Host) kernelAfter(found *Resolution, k *drydockv1.KernelStatus) (release string, brought *drydockv1.Kernel) {
	known := k.GetRunningVersion() != "" || slices.ContainsFunc(k.GetInstalled(), func(have *drydockv1.Kernel) bool { return have.Release == k.GetRunning() })
	for _, b := range found.Kernels {
		if (known || h.cfg.Simulated) && b.Release == found.Newest.GetRelease() {
			release, brought = b.Release, b
		}
	}
	if brought == nil && known && !h.cfg.Simulated && len(k.GetInstalled()) > 0 {
		release = k.Installed[0].Release
	}
	if release == k.GetRunning() {
		release = ""
	}
	return release, brought
}
