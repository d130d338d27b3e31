package orchestrator

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
)

// orderRollout changes the head of a rollout because an operator says so.
func (c *Controller) orderRollout(ctx context.Context, r *reign, id string, change func(*drydockv1.Rollout) error) (*drydockv1.Rollout, error) {
	if _, err := c.rollout(ctx, id); err != nil {
		return nil, err
	}
	_, err := journal(ctx, c, r, rolloutKey(id), func(record *drydockv1.RolloutRecord) error { return change(record.GetRollout()) })
	if err != nil {
		return nil, err
	}
	if err := c.carryOut(r, id); err != nil {
		return nil, err
	}
	return c.wholeRollout(ctx, id)
}

// pauseRollout holds a rollout after the step that it is in.
func (c *Controller) pauseRollout(ctx context.Context, r *reign, id, by string) (*drydockv1.Rollout, error) {
	return c.orderRollout(ctx, r, id, func(rollout *drydockv1.Rollout) error {
		if !active(rollout.GetState()) {
			return refuse("pause rollout "+id, because("it is "+stateWord(rollout.GetState()), "see `drydock rollout show "+id+"`"))
		}
		rollout.Asked, rollout.Reason = askPause, "is being paused by "+by
		return nil
	})
}

// abortRollout ends a rollout after the step that it is in.
func (c *Controller) abortRollout(ctx context.Context, r *reign, id, by string) (*drydockv1.Rollout, error) {
	return c.orderRollout(ctx, r, id, func(rollout *drydockv1.Rollout) error {
		if over(rollout.GetState()) {
			return refuse("abort rollout "+id, because("it is "+stateWord(rollout.GetState()), "see `drydock rollout show "+id+"`"))
		}
		rollout.Asked, rollout.Reason, rollout.State = askAbort, "is being aborted by "+by, rolloutRunning
		return nil
	})
}

// resumeRollout goes on with one that is paused or has stopped. What failed is tried again.
func (c *Controller) resumeRollout(ctx context.Context, r *reign, id, by string) (*drydockv1.Rollout, error) {
	item, err := c.rollout(ctx, id)
	if err != nil {
		return nil, err
	}
	if state := item.Value.GetRollout().GetState(); state != rolloutPaused && state != rolloutStopped && item.Value.GetRollout().GetAsked() != askPause {
		return nil, refuse("resume rollout "+id, because("it is "+stateWord(state), "see `drydock rollout show "+id+"`"))
	}
	hosts, err := c.rolloutHosts(ctx, id)
	if err != nil {
		return nil, err
	}
	again := false
	for _, h := range hosts {
		if h.GetState() != hostFailed {
			continue
		}
		again = true
		_, err := journal(ctx, c, r, rolloutHostKey(id, h.GetHost()), func(h *drydockv1.RolloutHost) error {
			h.State, h.Problems, h.Deadline, h.Result = hostPending, nil, nil, nil
			h.Attempt++
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	c.log.Info("rollout resumed", "rollout", id, "by", by)
	return c.orderRollout(ctx, r, id, func(rollout *drydockv1.Rollout) error {
		rollout.State, rollout.Reason, rollout.Asked, rollout.Problems = rolloutRunning, "", "", nil
		rollout.Until, rollout.RedSince, rollout.FailedMoves, rollout.HostsFailed = nil, nil, 0, 0
		if again && rollout.GetStep() == stepAdmit {
			rollout.Step = stepDownload
		}
		return nil
	})
}

// approveGate is an operator's word for the gate that a rollout is at.
func (c *Controller) approveGate(ctx context.Context, r *reign, id, gate, by string) (*drydockv1.Rollout, error) {
	item, err := c.rollout(ctx, id)
	if err != nil {
		return nil, err
	}
	p, err := poolOf(item.Value)
	if err != nil {
		return nil, err
	}
	manual := false
	for _, g := range p.Gates {
		manual = manual || g.Name == gate && g.Manual != ""
	}
	if !manual {
		return nil, refuse("approve gate "+gate, because(fmt.Sprintf("pool %s had no manual gate of this name when rollout %s began", p.Name, id), "see `drydock rollout show "+id+"`"))
	}
	return c.orderRollout(ctx, r, id, func(rollout *drydockv1.Rollout) error {
		point := pointOf(rollout)
		if over(rollout.GetState()) || point == "" {
			return refuse("approve gate "+gate, because("rollout "+id+" does not wait for it now", "see `drydock rollout show "+id+"`"))
		}
		for _, a := range rollout.GetApprovals() {
			if a.GetGate() == gate && a.GetPoint() == point {
				return nil
			}
		}
		rollout.Approvals = append(rollout.Approvals, &drydockv1.GateApproval{Gate: gate, By: by, At: timestamppb.New(c.now()), Point: point})
		return nil
	})
}

// pointOf is where in the rollout its gates are asked now; empty where it is elsewhere.
func pointOf(rollout *drydockv1.Rollout) string {
	switch rollout.GetStep() {
	case stepStartGates:
		return "start"
	case stepHostGates:
		return fmt.Sprintf("round %d", rollout.GetRound()+1)
	case stepEndGates:
		return "end"
	}
	return ""
}
