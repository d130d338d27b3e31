package patch

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

const (
	// answerFirst is how long the host stays up after a reboot was promised, so that the answer gets out.
	answerFirst = time.Second
	// downWithin is how long a host may take to go down once it was asked to, before pods may come again.
	downWithin = 10 * time.Minute
	// proveWithin is how long the proof that no pod is left may take.
	proveWithin = 30 * time.Second
)

// Kinds of reboot.
const (
	Real      = "real"
	Simulated = "simulated"
)

func (h *Host) kind() string {
	if h.cfg.Simulated {
		return Simulated
	}
	return Real
}

// Reboot proves that no pod is left, and has the host reboot a moment later, into the kernel if that is named. From the proof on no
// pod may come.
func (h *Host) Reboot(ctx context.Context, boot, kernel, reason string) (*drydockv1.RebootResponse, error) {
	h.power.Lock()
	defer h.power.Unlock()
	res := &drydockv1.RebootResponse{Kind: h.kind()}
	if boot == "" {
		return nil, errors.New("the boot that is to end is not named")
	}
	if boot != h.cfg.Boot {
		res.Already = true
		return res, nil
	}
	if h.down.now() {
		return res, nil // it is on its way
	}
	if err := h.fell; err != nil {
		h.fell = nil
		res.Refusals = append(res.Refusals, Refusal("see the agent's log on the host, then reboot again", "the last reboot did not come about: %v", err))
		return res, nil
	}
	if err := h.remember(ctx, false); err != nil {
		return nil, err
	}
	if !h.down.close() {
		res.Refusals = append(res.Refusals, Refusal("cordon the host and ask again", "a pod is on its way here"))
		return res, nil
	}
	refusals, err := h.inTheWay(ctx)
	if err == nil && len(refusals) == 0 {
		res.Untried, refusals, err = h.try(ctx, kernel)
	}
	if err != nil || len(refusals) > 0 {
		h.down.open()
		res.Refusals = refusals
		return res, err
	}
	h.cfg.Log.Info("no pod is left, the host reboots", "boot", boot, "kind", res.Kind, "kernel", kernel, "untried", res.Untried, "reason", reason)
	go h.goDown(context.WithoutCancel(ctx))
	return res, nil
}

// inTheWay names the pods that are left, and work on packages.
func (h *Host) inTheWay(ctx context.Context) ([]*drydockv1.Refusal, error) {
	h.starting.Lock() // work that is being started is at it afterwards, and none is started once the host goes
	at, err := lockedBy(h.lockPath())
	h.starting.Unlock()
	if err != nil {
		return nil, err
	}
	var reasons []*drydockv1.Refusal
	if at != "" {
		reasons = append(reasons, Refusal("wait until it has ended", "packages are being installed: %s", at))
	}
	ctx, cancel := context.WithTimeout(ctx, proveWithin)
	defer cancel()
	left, err := h.cfg.Pods(ctx)
	if err != nil {
		return nil, fmt.Errorf("prove that no pod is left: %w", err)
	}
	for _, pod := range left {
		reasons = append(reasons, Refusal("migrate or stop it: `drydock host drain` moves all", "pod %s is here", pod))
	}
	if h.cfg.Simulated && len(h.cfg.RebootCommand) == 0 {
		reasons = append(reasons, Refusal("set `reboot.command` in the agent's configuration", "a reboot of this host is simulated, and no command is known that does it"))
	}
	return reasons, nil
}

// goDown reboots. Where the host is still up much later, pods may come again.
func (h *Host) goDown(ctx context.Context) {
	time.Sleep(answerFirst)
	err := h.inhibitor.release()
	if err == nil {
		err = h.reboot(ctx)
	}
	if err == nil {
		time.Sleep(downWithin)
		err = fmt.Errorf("the host was still up %s after it was asked to reboot", downWithin)
	}
	h.cfg.Log.Error("reboot", "error", err)
	h.power.Lock()
	defer h.power.Unlock()
	h.fell = err
	h.down.open()
	if err := h.Resume(ctx); err != nil {
		h.cfg.Log.Warn("block reboots again", "error", err)
	}
}

func (h *Host) reboot(ctx context.Context) error {
	if command := h.cfg.RebootCommand; len(command) > 0 {
		return said(exec.CommandContext(ctx, command[0], command[1:]...))
	}
	manager, done, err := h.logind(ctx)
	if err == nil && manager != nil {
		defer done()
		err = manager.CallWithContext(ctx, "org.freedesktop.login1.Manager.Reboot", 0, false).Err
		if err == nil {
			return nil
		}
		err = fmt.Errorf("ask logind to reboot: %w", err)
	}
	if last := said(exec.CommandContext(ctx, "systemctl", "reboot")); last != nil {
		return errors.Join(err, last)
	}
	return nil
}

// said runs a command, and has what it wrote in its error.
func said(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
