package patch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
)

// Order is what Apply is asked for.
type Order struct {
	// ID is the same for every call that means the same work.
	ID        string
	Patch     *drydockv1.Patch
	Conffiles string
	// Again: where the work has ended without success, try again instead of telling that.
	Again bool
}

const (
	// lookEvery is how often work that is followed is looked at.
	lookEvery = 200 * time.Millisecond
	// startWithin is how long work may take to say that it began.
	startWithin = 20 * time.Second
	// starts is how often work that ends without a word is started in one call.
	starts = 3
	// jobsKept is how many patches' logs and snapshots stay on the host.
	jobsKept = 10
)

// Download brings the package files of a patch to the host, verified.
func (h *Host) Download(ctx context.Context, patch *drydockv1.Patch, tell Tell) error {
	installer, err := h.installer()
	if err != nil {
		return err
	}
	if err := verifiable(patch); err != nil {
		return err
	}
	return installer.Download(ctx, patch, h.files(), tell)
}

// verifiable refuses packages of which it is not known how their files must look.
func verifiable(patch *drydockv1.Patch) error {
	for _, p := range patch.GetPackages() {
		if p.Name == "" || p.To == "" || len(p.Sha256) != 64 {
			return Refuse("resolve the patch again", "package %s %s has no SHA-256 from verified metadata", p.Name, p.To)
		}
	}
	return nil
}

// Apply installs exactly the versions of a patch, or follows or tells the end of what an earlier call with the same id began. What
// became of it is in the result; the error is of what keeps that from being known. The work goes on when ctx ends.
func (h *Host) Apply(ctx context.Context, o Order, tell Tell) (*drydockv1.PatchResult, error) {
	if o.Conffiles != Keep && o.Conffiles != Replace {
		return nil, fmt.Errorf("configuration files are to be %q: %s and %s are known", o.Conffiles, Keep, Replace)
	}
	if dirName(o.ID) == "" {
		return nil, fmt.Errorf("%q cannot be the id of a patch", o.ID)
	}
	if err := verifiable(o.Patch); err != nil {
		return nil, err
	}
	for range starts {
		j, err := h.begin(ctx, o)
		if err != nil {
			return nil, err
		}
		o.Again = false
		result, err := h.follow(ctx, j, tell)
		if result != nil || err != nil {
			return result, err
		}
	}
	return nil, fmt.Errorf("the work on packages of %s ended %d times without saying how: see %s on the host", o.ID, starts, filepath.Join(h.jobDir(o.ID), logFile))
}

// begin finds the work of an order, or starts it.
func (h *Host) begin(ctx context.Context, o Order) (*job, error) {
	h.starting.Lock()
	defer h.starting.Unlock()
	if h.down.now() {
		return nil, Refuse("ask again once it is up", "the host is about to reboot")
	}
	j, err := h.find(o)
	if err != nil {
		return nil, err
	}
	at, err := lockedBy(h.lockPath())
	switch _, result, serr := j.state(); {
	case err != nil || serr != nil:
		return nil, errors.Join(err, serr)
	case result != nil || at == o.ID:
		return j, nil
	case at != "":
		return nil, Refuse("wait for it, or abort its rollout", "the host is at work on another patch: %s", at)
	}
	if err := errors.Join(h.remember(ctx, false), h.holdKernel(ctx, o.Patch.GetKernel())); err != nil {
		return nil, err
	}
	return j, h.start(ctx, j)
}

// find is the work of an order as it lies here, made where there is none.
func (h *Host) find(o Order) (*job, error) {
	dir := h.jobDir(o.ID)
	j, err := loadJob(dir)
	if err == nil && !slices.EqualFunc(j.patch.Packages, o.Patch.GetPackages(), same) {
		return nil, fmt.Errorf("patch %s was begun with other packages: give another patch another id", o.ID)
	}
	if err == nil {
		_, result, serr := j.state()
		if serr != nil || result == nil || result.Done || !o.Again {
			return j, serr
		}
		return j, durable.Remove(filepath.Join(dir, stateFile))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	installer, err := h.installer()
	if err != nil {
		return nil, err
	}
	if err := h.prune(); err != nil {
		return nil, err
	}
	return newJob(dir, order{ID: o.ID, Manager: installer.Name(), Conffiles: o.Conffiles, Begun: time.Now()}, o.Patch)
}

func same(a, b *drydockv1.PinnedPackage) bool {
	return a.Name == b.Name && a.Arch == b.Arch && a.To == b.To && a.Sha256 == b.Sha256
}

// prune removes the oldest of what earlier patches left.
func (h *Host) prune() error {
	entries, err := os.ReadDir(h.jobs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	age := func(e os.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return age(b).Compare(age(a)) })
	for _, old := range entries[min(len(entries), jobsKept-1):] {
		err = errors.Join(err, os.RemoveAll(filepath.Join(h.jobs(), old.Name())))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// start starts work in a session of its own, and returns once it is known to be at it.
func (h *Host) start(ctx context.Context, j *job) error {
	log, err := os.OpenFile(filepath.Join(j.dir, logFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	argv := append(slices.Clone(h.cfg.Program), j.dir)
	if h.underSystemd() {
		// A unit of its own is not stopped with the agent's, and what runs maintainers' scripts when its main process is killed
		// is left to end by itself.
		argv = append([]string{"systemd-run", "--quiet", "--collect", "--unit=" + unitName(j.order.ID), "--description=Drydock installs packages",
			"--property=KillMode=process", "--property=TimeoutStopSec=10min", "--"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the work on packages: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return h.begun(ctx, j, ended)
}

// begun waits until work has said that it began, or cannot any more.
func (h *Host) begun(ctx context.Context, j *job, ended <-chan error) error {
	deadline := time.After(startWithin)
	for {
		at, err := lockedBy(h.lockPath())
		_, result, serr := j.state()
		if err != nil || serr != nil || at == j.order.ID || result != nil {
			return errors.Join(err, serr)
		}
		select {
		case err := <-ended:
			if ended = nil; err != nil {
				return fmt.Errorf("start the work on packages: %w: %s", err, tail(filepath.Join(j.dir, logFile)))
			}
			if !h.underSystemd() {
				return nil
			}
		case <-deadline:
			return fmt.Errorf("the work on packages did not begin within %s: see %s", startWithin, filepath.Join(j.dir, logFile))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery / 4):
		}
	}
}

func unitName(id string) string {
	clean := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			return c
		}
		return '_'
	}, id)
	return fmt.Sprintf("drydock-patch-%.100s-%x.service", clean, time.Now().UnixNano()&0xffffff)
}

// follow tells how work goes until it has ended. The result is nil where it ended without one.
func (h *Host) follow(ctx context.Context, j *job, tell Tell) (*drydockv1.PatchResult, error) {
	told := state{Percent: -1}
	for {
		// In this order: work that has ended between the two has left its result.
		at, err := lockedBy(h.lockPath())
		now, result, serr := j.state()
		if err != nil || serr != nil || result != nil {
			return result, errors.Join(err, serr)
		}
		if at != j.order.ID && at != "?" {
			return nil, nil
		}
		if now.Percent != told.Percent || now.Activity != told.Activity {
			tell(now.Percent, now.Activity)
			told = now
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}
