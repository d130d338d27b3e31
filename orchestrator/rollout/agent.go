package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/orchestrator/refusal"
)

// passing says whether an error of a call may be over when it is made again: nobody answered, or was able to at the moment.
func passing(err error) bool {
	if !connect.IsWireError(err) {
		return true
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeAborted, connect.CodeDeadlineExceeded, connect.CodeCanceled:
		return true
	}
	return false
}

// ask asks a host again and again until it answers, or has not for as long as a boot may take.
func (x *execution) ask(ctx context.Context, h *drydockv1.RolloutHost, what string, call func(drydockv1connect.PatchServiceClient) error) error {
	for {
		known, err := x.Host(ctx, h.GetHost())
		if err != nil {
			return x.removed(h, err)
		}
		agent, err := x.Patcher(known)
		if err == nil {
			err = call(agent)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, new(*setback)), errors.As(err, new(*exited)):
			return err
		case !passing(err):
			return x.failed(what, fmt.Errorf("host %s: %w", h.GetHost(), err))
		}
		if err := x.late(ctx, h, what, err); err != nil {
			return err
		}
		if !sleep(ctx, x.Timings.ReconcileInterval) {
			return ctx.Err()
		}
	}
}

func (x *execution) removed(h *drydockv1.RolloutHost, err error) error {
	if connect.CodeOf(err) != connect.CodeNotFound {
		return err
	}
	return &setback{"host " + h.GetHost() + " was removed", []*drydockv1.Refusal{refusal.Because("it is not known any more", "let it join again: `drydock host join "+h.GetHost()+"`")}}
}

// failed is a setback by what a host answered.
func (x *execution) failed(what string, err error) error {
	reasons := refusal.Why(err)
	for _, reason := range reasons {
		if reason.GetRemedy() == refusal.Try {
			reason.Remedy = "remove the cause, and run `drydock rollout resume " + x.id + "`"
		}
	}
	return &setback{what, reasons}
}

// late is a setback where a host has had the time that a boot may take. The deadline is journalled when it is first asked for.
func (x *execution) late(ctx context.Context, h *drydockv1.RolloutHost, what string, cause error) error {
	h, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		if h.GetDeadline() == nil {
			h.Deadline = timestamppb.New(x.Now().Add(x.Timings.BootTimeout))
		}
		return nil
	})
	if err != nil || x.Now().Before(h.GetDeadline().AsTime()) {
		return err
	}
	return x.gone(ctx, h, what, cause)
}

func (x *execution) download(ctx context.Context, h *drydockv1.RolloutHost) error {
	return x.ask(ctx, h, "download", func(agent drydockv1connect.PatchServiceClient) error {
		stream, err := agent.Download(ctx, connect.NewRequest(&drydockv1.DownloadRequest{Patch: h.GetPatch()}))
		if err != nil {
			return err
		}
		defer stream.Close()
		for stream.Receive() {
			m := stream.Msg()
			percent := int32(0)
			if m.GetBytesTotal() > 0 {
				percent = int32(100 * m.GetBytesDone() / m.GetBytesTotal())
			}
			x.show(h.GetHost(), "download: "+m.GetActivity(), percent)
		}
		return stream.Err()
	})
}

func (x *execution) occupy(ctx context.Context, h *drydockv1.RolloutHost) error {
	var found []*drydockv1.Refusal
	err := x.ask(ctx, h, "occupy", func(agent drydockv1connect.PatchServiceClient) error {
		answer, err := agent.Occupy(ctx, connect.NewRequest(&drydockv1.OccupyRequest{Why: "Drydock patches this host (" + x.by() + ")"}))
		if err == nil {
			found = answer.Msg.GetAutomatic()
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, automatic := range found {
		x.Log.Warn("host may be rebooted by something else", "rollout", x.id, "host", h.GetHost(), "reason", automatic.GetReason())
	}
	_, err = x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.Warnings = found
		return nil
	})
	return err
}

// release lets others reboot the host again. A host that does not answer holds nobody off: what it held ended with its boot.
func (x *execution) release(ctx context.Context, h *drydockv1.RolloutHost) error {
	known, err := x.Host(ctx, h.GetHost())
	if connect.CodeOf(err) == connect.CodeNotFound || err == nil && !known.Answers {
		return nil
	}
	if err != nil {
		return err
	}
	agent, err := x.Patcher(known)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, x.Timings.CallTimeout)
	defer cancel()
	_, err = agent.Release(ctx, connect.NewRequest(&drydockv1.ReleaseRequest{}))
	if err != nil && passing(err) {
		return nil
	}
	return err
}

// apply installs exactly the versions of the patch, once for each attempt.
func (x *execution) apply(ctx context.Context, h *drydockv1.RolloutHost) error {
	if h.GetApplied() {
		return nil
	}
	var result *drydockv1.PatchResult
	request := &drydockv1.ApplyRequest{
		Id: fmt.Sprintf("%s-%s-%d", x.id, h.GetHost(), h.GetAttempt()), Patch: h.GetPatch(), Conffiles: x.pool.Patch.Conffiles,
	}
	err := x.ask(ctx, h, "patch", func(agent drydockv1connect.PatchServiceClient) error {
		stream, err := agent.Apply(ctx, connect.NewRequest(request))
		if err != nil {
			return err
		}
		defer stream.Close()
		for stream.Receive() {
			x.show(h.GetHost(), stream.Msg().GetActivity(), stream.Msg().GetPercent())
			if stream.Msg().GetResult() != nil {
				result = stream.Msg().GetResult()
			}
		}
		if err := stream.Err(); err != nil || result != nil {
			return err
		}
		return errors.New("the patch was not followed to its end")
	})
	if err != nil {
		return err
	}
	if _, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.Result, h.Applied = result, result.GetDone()
		return nil
	}); err != nil || result.GetDone() {
		return err
	}
	reasons := result.GetRefusals()
	if len(reasons) == 0 {
		reasons = []*drydockv1.Refusal{refusal.Because("the packages were not installed: "+lastLine(result.GetLog()), "look after the host, and run `drydock rollout resume "+x.id+"`")}
	}
	return &setback{"patch", reasons}
}

func lastLine(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return lines[len(lines)-1]
}

// verify asks whether the host is as its patch wants it, until it has started.
func (x *execution) verify(ctx context.Context, h *drydockv1.RolloutHost) error {
	request := &drydockv1.VerifyRequest{Patch: h.GetPatch()}
	if h.GetReboot() {
		request.OldBootId = h.GetOldBootId()
	}
	err := x.ask(ctx, h, "verify", func(agent drydockv1connect.PatchServiceClient) error {
		answer, err := agent.Verify(ctx, connect.NewRequest(request))
		switch {
		case err != nil:
			return err
		case answer.Msg.GetStarting():
			x.show(h.GetHost(), "is starting", 0)
			return errors.New("it is still starting")
		case len(answer.Msg.GetRefusals()) > 0:
			return &setback{"verify", answer.Msg.GetRefusals()}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.Verified = true
		return nil
	})
	return err
}

// open lets pods come to the host again, and others reboot it.
func (x *execution) open(ctx context.Context, h *drydockv1.RolloutHost) error {
	if err := x.release(ctx, h); err != nil {
		return x.failed("release", err)
	}
	return x.uncordon(ctx, h)
}
