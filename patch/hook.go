package patch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

// hookWithin is how long a hook may take where its policy does not say.
const hookWithin = 5 * time.Minute

// RunHook runs a command of a pool's policy. That it failed is in the answer; the error is of one that could not be run.
func (h *Host) RunHook(ctx context.Context, req *drydockv1.RunHookRequest) (*drydockv1.RunHookResponse, error) {
	if len(req.Command) == 0 || !filepath.IsAbs(req.Command[0]) {
		return nil, fmt.Errorf("hook %q: name the program by its absolute path", req.Command)
	}
	within := hookWithin
	if d := req.Timeout.AsDuration(); d > 0 {
		within = d
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	out, err := os.CreateTemp(h.cfg.Dir, "hook-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.CommandContext(ctx, req.Command[0], req.Command[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "DRYDOCK_POOL="+req.Pool, "DRYDOCK_ROLLOUT="+req.Rollout, "DRYDOCK_HOST="+req.Host)
	// A group of its own, so that what it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("hook %s was ended after %s: %w: %s", req.Command[0], within, context.Cause(ctx), tail(out.Name()))
	case err != nil && !errors.As(err, &exit):
		return nil, fmt.Errorf("hook %s: %w", req.Command[0], err)
	}
	return &drydockv1.RunHookResponse{ExitStatus: int32(cmd.ProcessState.ExitCode()), Output: tail(out.Name())}, nil
}
