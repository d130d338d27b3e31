package patch

import (
	"context"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

// Verify says whether the host is as its patch wants it, and fit to take pods. A kernel that was booted for a trial is the default
// from then on.
func (h *Host) Verify(ctx context.Context, req *drydockv1.VerifyRequest) (*drydockv1.VerifyResponse, error) {
	kernel, err := runningKernel()
	if err != nil {
		return nil, err
	}
	res := &drydockv1.VerifyResponse{BootId: h.cfg.Boot, Kernel: kernel}
	if err := h.verifyBoot(req, res); err != nil {
		return nil, err
	}
	if err := h.verifyServices(ctx, req, res); err != nil {
		return nil, err
	}
	switch {
	case req.WithoutProbe || h.cfg.Probe == nil:
		res.Unchecked = append(res.Unchecked, "whether a pod can be dumped and restored here: no probe was asked for")
	case res.Starting || len(res.Refusals) > 0:
		res.Unchecked = append(res.Unchecked, "whether a pod can be dumped and restored here: the rest comes first")
	default:
		res.Refusals = append(res.Refusals, h.cfg.Probe(ctx)...)
	}
	if res.Starting || len(res.Refusals) > 0 {
		return res, nil
	}
	return res, h.settle(ctx, kernel)
}

// verifyServices looks at what runs on the host, and at its packages.
func (h *Host) verifyServices(ctx context.Context, req *drydockv1.VerifyRequest, res *drydockv1.VerifyResponse) error {
	if h.underSystemd() {
		reasons, starting, err := h.units(ctx)
		if err != nil {
			return err
		}
		res.Refusals, res.Starting = append(res.Refusals, reasons...), starting
	} else {
		res.Unchecked = append(res.Unchecked, "units: the host is not started by systemd")
	}
	if err := h.containerd(ctx); err != nil {
		res.Refusals = append(res.Refusals, Refusal("see `journalctl -b -u containerd` on the host", "containerd does not answer: %v", err))
	}
	if len(req.GetPatch().GetPackages()) == 0 {
		return nil
	}
	installer, err := h.installer()
	if err != nil {
		return err
	}
	lacking, err := installer.Lacking(ctx, req.Patch)
	res.Refusals = append(res.Refusals, lacking...)
	return err
}

// containerd waits until it answers, since it may start with the host: the error is its last.
func (h *Host) containerd(ctx context.Context) error {
	for deadline := time.Now().Add(h.cfg.Settle); ; {
		_, err := h.cfg.Containerd(ctx)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(lookEvery):
		}
	}
}

// verifyBoot compares the boot and the kernel with those that were wanted.
func (h *Host) verifyBoot(req *drydockv1.VerifyRequest, res *drydockv1.VerifyResponse) error {
	if req.OldBootId == "" {
		return nil
	}
	if req.OldBootId == h.cfg.Boot {
		res.Refusals = append(res.Refusals, Refusal("wait for its reboot, or reboot it", "the host is still in boot %s, which was to end", h.cfg.Boot))
		return nil
	}
	switch kernel := req.GetPatch().GetKernel(); {
	case kernel == "" || kernel == res.Kernel:
	case h.cfg.Simulated:
		res.Unchecked = append(res.Unchecked, "kernel: the reboot was simulated, "+res.Kernel+" runs in place of "+kernel)
	default:
		reason, err := h.fellBack(kernel, res.Kernel, req.OldBootId)
		if err != nil {
			return err
		}
		if reason == nil {
			reason = Refusal("see what the boot loader starts: `grub-editenv list` and /boot/grub/grub.cfg on the host",
				"kernel %s runs, and the patch wants %s", res.Kernel, kernel)
		}
		res.Refusals = append(res.Refusals, reason)
	}
	return nil
}
