package patch

import (
	"context"
	"time"

	drydockv1 "drydock/api/drydock/v1"

	"golang.org/x/sys/unix"
)

// Verify says whether the host is as its patch wants it, and fit to take pods.
func (h *Host) Verify(ctx context.Context, req *drydockv1.VerifyRequest) (*drydockv1.VerifyResponse, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, err
	}
	res := &drydockv1.VerifyResponse{BootId: h.cfg.Boot, Kernel: unix.ByteSliceToString(uts.Release[:])}
	h.verifyBoot(req, res)
	if h.underSystemd() {
		reasons, starting, err := h.units(ctx)
		if err != nil {
			return nil, err
		}
		res.Refusals, res.Starting = append(res.Refusals, reasons...), starting
	} else {
		res.Unchecked = append(res.Unchecked, "units: the host is not started by systemd")
	}
	if err := h.containerd(ctx); err != nil {
		res.Refusals = append(res.Refusals, Refusal("see `journalctl -b -u containerd` on the host", "containerd does not answer: %v", err))
	}
	if len(req.GetPatch().GetPackages()) > 0 {
		installer, err := h.installer()
		if err != nil {
			return nil, err
		}
		lacking, err := installer.Lacking(ctx, req.Patch)
		if err != nil {
			return nil, err
		}
		res.Refusals = append(res.Refusals, lacking...)
	}
	switch {
	case req.WithoutProbe || h.cfg.Probe == nil:
		res.Unchecked = append(res.Unchecked, "whether a pod can be dumped and restored here: no probe was asked for")
	case res.Starting || len(res.Refusals) > 0:
		res.Unchecked = append(res.Unchecked, "whether a pod can be dumped and restored here: the rest comes first")
	default:
		res.Refusals = append(res.Refusals, h.cfg.Probe(ctx)...)
	}
	return res, nil
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
func (h *Host) verifyBoot(req *drydockv1.VerifyRequest, res *drydockv1.VerifyResponse) {
	if req.OldBootId == "" {
		return
	}
	if req.OldBootId == h.cfg.Boot {
		res.Refusals = append(res.Refusals, Refusal("wait for its reboot, or reboot it", "the host is still in boot %s, which was to end", h.cfg.Boot))
		return
	}
	switch kernel := req.GetPatch().GetKernel(); {
	case kernel == "" || kernel == res.Kernel:
	case h.cfg.Simulated:
		res.Unchecked = append(res.Unchecked, "kernel: the reboot was simulated, "+res.Kernel+" runs in place of "+kernel)
	default:
		res.Refusals = append(res.Refusals, Refusal("see what the boot loader starts: `grub-editenv list` and /boot/grub/grub.cfg on the host",
			"kernel %s runs, and the patch wants %s", res.Kernel, kernel))
	}
}
