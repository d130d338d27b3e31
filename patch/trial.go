package patch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
	"drydock/patch/grub"

	"golang.org/x/sys/unix"
)

// trial is a kernel that is booted once, and is the default only after Verify has found the host fit with it.
type trial struct {
	Kernel   string `json:"kernel"`
	Fallback string `json:"fallback"`
	// Boot is the one that ended for it.
	Boot string `json:"boot"`
}

func (h *Host) trialPath() string { return filepath.Join(h.cfg.Dir, "trial.json") }

// boots says whether the boot loader decides which kernel runs after a reboot, and a patch wants another one.
func (h *Host) boots(kernel string) bool {
	return kernel != "" && !h.cfg.Simulated && h.cfg.Grub != nil
}

// untried sorts out why a kernel cannot be tried: what somebody can mend is a refusal, what nobody can is told, and the kernel is
// booted without a trial.
func untried(err error) (why string, refusals []*drydockv1.Refusal, other error) {
	var unfit *grub.Unfit
	switch {
	case !errors.As(err, &unfit):
		return "", nil, err
	case unfit.Remedy == "":
		return unfit.Reason, nil, nil
	}
	return "", []*drydockv1.Refusal{Refusal(unfit.Remedy, "the new kernel cannot be tried: %s", unfit.Reason)}, nil
}

// triable says what keeps a kernel that a patch wants from being tried, and can be mended.
func (h *Host) triable(ctx context.Context, kernel string) ([]*drydockv1.Refusal, error) {
	if !h.boots(kernel) {
		return nil, nil
	}
	_, refusals, err := untried(h.cfg.Grub.Fit(ctx))
	return refusals, err
}

// holdKernel has the host go on booting the kernel that runs, whatever a patch installs.
func (h *Host) holdKernel(ctx context.Context, kernel string) error {
	if !h.boots(kernel) {
		return nil
	}
	running, err := runningKernel()
	if err != nil {
		return err
	}
	_, refusals, err := untried(h.cfg.Grub.Pin(ctx, running))
	if len(refusals) > 0 {
		return &Refused{Reasons: refusals}
	}
	return err
}

// try has the next boot start the kernel, and only that one. Where that cannot be, why says so.
func (h *Host) try(ctx context.Context, kernel string) (why string, refusals []*drydockv1.Refusal, err error) {
	running, err := runningKernel()
	if err != nil || !h.boots(kernel) || kernel == running {
		return "", nil, err
	}
	data, err := json.Marshal(trial{Kernel: kernel, Fallback: running, Boot: h.cfg.Boot})
	if err != nil {
		return "", nil, err
	}
	// It is written first: a host that ended in between would run a kernel that nobody makes the default.
	if err := durable.Replace(h.trialPath(), data, 0o600); err != nil {
		return "", nil, err
	}
	why, refusals, err = untried(h.cfg.Grub.Try(ctx, kernel, running))
	if why != "" || len(refusals) > 0 || err != nil {
		return why, refusals, errors.Join(err, durable.Remove(h.trialPath()))
	}
	return "", nil, nil
}

// tried is the last trial, nil where there is none that is not settled.
func (h *Host) tried() (*trial, error) {
	data, err := os.ReadFile(h.trialPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var t trial
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err != nil {
		return nil, fmt.Errorf("the trial of a kernel, %s: %w", h.trialPath(), err)
	}
	return &t, nil
}

// fellBack is why another kernel runs than the one that was tried; nil where that is not what happened.
func (h *Host) fellBack(wanted, runs, ended string) (*drydockv1.Refusal, error) {
	t, err := h.tried()
	if err != nil || t == nil || t.Kernel != wanted || t.Boot != ended {
		return nil, err
	}
	return Refusal("see the host's console, and `journalctl -b -1` there; `drydock patch` tries it once more, `apt-get purge linux-image-"+wanted+"` gives it up",
		"kernel %s was started once for a trial and did not stay up: the host fell back to %s", wanted, runs), nil
}

// settle makes the kernel that was tried the default, now that it is verified.
func (h *Host) settle(ctx context.Context, runs string) error {
	t, err := h.tried()
	if err != nil || t == nil || t.Kernel != runs || t.Boot == h.cfg.Boot {
		return err
	}
	if err := h.cfg.Grub.Pin(ctx, runs); err != nil {
		return fmt.Errorf("make kernel %s the default: %w", runs, err)
	}
	h.cfg.Log.Info("the kernel that was tried is the default from now on", "kernel", runs, "before", t.Fallback)
	return durable.Remove(h.trialPath())
}

func runningKernel() (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(uts.Release[:]), nil
}
