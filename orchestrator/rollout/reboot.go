package rollout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
)

const (
	// askAgain is how long a host may take to go down before it is told again to reboot.
	askAgain = time.Minute
	// refusedLooks is how many looks long a host may refuse to reboot: what it held of a pod that has left may still be going.
	refusedLooks = 15
)

// reboot reboots the host once: the boot that is to end is journalled first, and no other is ever ended.
func (x *execution) reboot(ctx context.Context, h *drydockv1.RolloutHost) error {
	known, err := x.Host(ctx, h.GetHost())
	if err != nil {
		return x.removed(h, err)
	}
	h, err = x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		if h.GetOldBootId() == "" {
			h.OldBootId = known.Record.GetBootId()
		}
		return nil
	})
	if err != nil {
		return err
	}
	var asked time.Time
	refused := 0
	for {
		known, err := x.Host(ctx, h.GetHost())
		if err != nil {
			return x.removed(h, err)
		}
		if known.Record.GetBootId() != h.GetOldBootId() && known.Answers {
			return x.rebooted(ctx, h, known.Record.GetBootId())
		}
		if known.Answers && x.Now().Sub(asked) >= askAgain {
			err := x.orderReboot(ctx, h, known)
			switch {
			case err == nil:
				asked, refused = x.Now(), 0
			case errors.Is(err, errUnheard):
			case refused >= refusedLooks || !errors.As(err, new(*setback)):
				return err
			default:
				refused++
			}
		}
		if err := x.late(ctx, h, "reboot", errors.New("it has not come back")); err != nil {
			return err
		}
		if !sleep(ctx, x.Timings.ReconcileInterval) {
			return ctx.Err()
		}
	}
}

// errUnheard: nobody was there to be told.
var errUnheard = errors.New("no agent listens")

// orderReboot tells the host to end the boot. That no answer comes says nothing: it may be going down. That nobody listens is
// errUnheard.
func (x *execution) orderReboot(ctx context.Context, h *drydockv1.RolloutHost, known Host) error {
	agent, err := x.Patcher(known)
	if err != nil {
		return err
	}
	x.show(h.GetHost(), "reboots", 0)
	within, cancel := context.WithTimeout(ctx, x.Timings.CreateTimeout)
	defer cancel()
	answer, err := agent.Reboot(within, connect.NewRequest(&drydockv1.RebootRequest{
		BootId: h.GetOldBootId(), Kernel: h.GetPatch().GetKernel(), Reason: "Drydock patches this host (" + x.by() + ")",
	}))
	if err := x.Fault("rollout ordered reboot of " + h.GetHost()); err != nil {
		return err
	}
	var network *net.OpError
	switch {
	case errors.As(err, &network) && network.Op == "dial":
		return errUnheard
	case err != nil && passing(err):
		return nil
	case err != nil:
		return x.failed("reboot", fmt.Errorf("host %s: %w", h.GetHost(), err))
	case len(answer.Msg.GetRefusals()) > 0:
		return &setback{"reboot", answer.Msg.GetRefusals()}
	}
	if why := answer.Msg.GetUntried(); why != "" {
		x.Log.Warn("the new kernel is booted without a trial", "rollout", x.id, "host", h.GetHost(), "kernel", h.GetPatch().GetKernel(), "reason", why)
	}
	return x.isOfKind(ctx, h, answer.Msg.GetKind())
}

// rebooted journals the boot that the host is in now. Where the answer was lost that said what kind of reboot it would be, it is
// asked for again: a host that is in another boot than the one that was to end says so, and does nothing.
func (x *execution) rebooted(ctx context.Context, h *drydockv1.RolloutHost, boot string) error {
	h, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.BootId = boot
		return nil
	})
	if err != nil || h.GetRebootKind() != "" {
		return err
	}
	kind := ""
	err = x.ask(ctx, h, "reboot", func(agent drydockv1connect.PatchServiceClient) error {
		answer, err := agent.Reboot(ctx, connect.NewRequest(&drydockv1.RebootRequest{BootId: h.GetOldBootId(), Reason: "it is over already"}))
		if err == nil {
			kind = answer.Msg.GetKind()
		}
		return err
	})
	if err != nil {
		return err
	}
	return x.isOfKind(ctx, h, kind)
}

// isOfKind journals whether a reboot is real or simulated.
func (x *execution) isOfKind(ctx context.Context, h *drydockv1.RolloutHost, kind string) error {
	_, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		if kind != "" {
			h.RebootKind = kind
		}
		return nil
	})
	return err
}
