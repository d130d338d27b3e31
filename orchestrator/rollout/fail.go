package rollout

import (
	"context"
	"fmt"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
)

// failHost takes a host out of the rollout. It stays cordoned, and says why; pods that were stopped for it run again where
// that can be.
func (x *execution) failHost(ctx context.Context, s step, h *drydockv1.RolloutHost, done *drydockv1.RolloutStep, failed *setback) error {
	x.Log.Warn("host failed", "rollout", x.id, "host", h.GetHost(), "step", s.name, "error", failed)
	x.Record(ctx, "patch", "host "+h.GetHost(), x.why("step "+s.name), failed)
	problems := slices.Clone(failed.reasons)
	if err := x.startStopped(ctx, h); err != nil {
		problems = append(problems, refusal.Because("pods that were stopped for it do not run again: "+err.Error(), "see `drydock pod ls --host "+h.GetHost()+"`"))
	}
	if err := x.release(ctx, h); err != nil {
		problems = append(problems, refusal.Because("it still keeps others from rebooting it: "+err.Error(), "restart its agent"))
	}
	if err := x.explainCordon(ctx, h.GetHost(), s.name+" failed: "+failed.Error()); err != nil {
		return err
	}
	_, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.State, h.Problems = hostFailed, problems
		if done != nil {
			h.Steps = append(h.Steps, done)
		}
		return nil
	})
	return err
}

func (x *execution) skipHost(ctx context.Context, h *drydockv1.RolloutHost, why *drydockv1.Refusal) error {
	x.Log.Info("host is left out", "rollout", x.id, "host", h.GetHost(), "reason", why.GetReason())
	x.Record(ctx, "patch", "host "+h.GetHost(), x.why("left out"), &skipped{why})
	if err := x.release(ctx, h); err != nil {
		return err
	}
	_, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.State, h.Problems = hostSkipped, []*drydockv1.Refusal{why}
		return nil
	})
	return err
}

// abort ends the rollout. Of hosts that are whole everything is taken back; one that was being patched stays cordoned.
func (x *execution) abort(ctx context.Context) error {
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return err
	}
	var problems []*drydockv1.Refusal
	for _, h := range hosts {
		if !whole(h) {
			if err := x.explainCordon(ctx, h.GetHost(), "rollout aborted while it was being patched"); err != nil {
				return err
			}
			problems = append(problems, refusal.Because(fmt.Sprintf("host %s was being patched (%s) and stays cordoned", h.GetHost(), h.GetStep()),
				"patch the pool again, or look after it and run `drydock host resume "+h.GetHost()+"`"))
			continue
		}
		all := steps()
		slices.Reverse(all)
		for _, s := range all {
			if s.undo == nil {
				continue
			}
			if err := s.undo(x, ctx, h); err != nil {
				problems = append(problems, refusal.Because(fmt.Sprintf("host %s: %s is not taken back: %v", h.GetHost(), s.name, err), "see `drydock host inspect "+h.GetHost()+"`"))
			}
		}
	}
	return x.end(ctx, stateAborted, "aborted", "aborted by an operator", problems)
}

// whole says whether nothing of a patch is half done on a host.
func whole(h *drydockv1.RolloutHost) bool {
	begun := h.GetApplied() || slices.ContainsFunc(h.GetSteps(), func(s *drydockv1.RolloutStep) bool { return s.GetName() == stepPatch && s.GetSkipped() == "" }) || h.GetStep() == stepPatch && len(h.GetPatch().GetPackages()) > 0
	return !begun && h.GetOldBootId() == "" || h.GetVerified()
}
