package rollout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
)

func (x *execution) startHooks(ctx context.Context, head *drydockv1.Rollout) error {
	x.notify(head, "started", "", "by "+head.GetStartedBy())
	return x.hooks(ctx, x.pool.Hooks.Start, nil)
}

func (x *execution) endHooks(ctx context.Context, _ *drydockv1.Rollout) error {
	return x.hooks(ctx, x.pool.Hooks.End, nil)
}

func (x *execution) beforeHooks(ctx context.Context, h *drydockv1.RolloutHost) error {
	return x.hooks(ctx, x.pool.Hooks.BeforeHost, h)
}

func (x *execution) afterHooks(ctx context.Context, h *drydockv1.RolloutHost) error {
	return x.hooks(ctx, x.pool.Hooks.AfterHost, h)
}

// hooks runs commands one after the other; one that fails ends it. After a change of leaders they run again.
func (x *execution) hooks(ctx context.Context, hooks []pool.Hook, h *drydockv1.RolloutHost) error {
	for _, hook := range hooks {
		what := "hook " + strings.Join(hook.Command, " ")
		var output string
		err := x.recorded(ctx, "run hook", x.hookedOn(h), what+", on the "+hook.Run, func() (err error) {
			if hook.Run == pool.RunHost {
				output, err = x.hookOnHost(ctx, hook, h)
			} else {
				output, err = x.command(ctx, hook.Command, hook.Timeout, h.GetHost())
			}
			return err
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, new(*setback)):
			return err
		case err != nil:
			reason := fmt.Sprintf("%s: %v", what, err)
			if output = strings.TrimSpace(output); output != "" {
				reason += ": " + lastLine(output)
			}
			return &setback{"a hook failed", []*drydockv1.Refusal{refusal.Because(reason, "remove the cause, and run `drydock rollout resume "+x.id+"`")}}
		}
	}
	return nil
}

// hookedOn is what a hook is about: a host, or without one the rollout.
func (x *execution) hookedOn(h *drydockv1.RolloutHost) string {
	if h == nil {
		return "rollout " + x.id
	}
	return "host " + h.GetHost()
}

func (x *execution) hookOnHost(ctx context.Context, hook pool.Hook, h *drydockv1.RolloutHost) (output string, err error) {
	failed := x.ask(ctx, h, "hook "+strings.Join(hook.Command, " "), func(agent drydockv1connect.PatchServiceClient) error {
		answer, err := agent.RunHook(ctx, connect.NewRequest(&drydockv1.RunHookRequest{
			Command: hook.Command, Timeout: durationpb.New(hook.Timeout), Pool: x.pool.Name, Rollout: x.id, Host: h.GetHost(),
		}))
		if err != nil {
			return err
		}
		output = answer.Msg.GetOutput()
		if status := answer.Msg.GetExitStatus(); status != 0 {
			return &exited{status}
		}
		return nil
	})
	return output, failed
}

// exited is a command that ended with another status than 0.
type exited struct{ status int32 }

func (e *exited) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// command runs a program on this controller, with its output's last 4 KiB, as text that can be stored.
func (x *execution) command(ctx context.Context, argv []string, timeout time.Duration, host string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "DRYDOCK_POOL="+x.pool.Name, "DRYDOCK_ROLLOUT="+x.id, "DRYDOCK_HOST="+host)
	cmd.WaitDelay = time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("did not end within %s", timeout)
	}
	text := output.String()
	return strings.ToValidUTF8(text[max(len(text)-4096, 0):], "\uFFFD"), err
}
