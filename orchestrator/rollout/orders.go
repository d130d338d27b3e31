package rollout

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
)

// order changes the head of a rollout because an operator says so.
func (s *Rollouts) order(ctx context.Context, term Term, id string, change func(*drydockv1.Rollout) error) (*drydockv1.Rollout, error) {
	if _, err := s.rollout(ctx, id); err != nil {
		return nil, err
	}
	_, err := journal(ctx, s.Store, s.rolloutKey(id), func(record *drydockv1.RolloutRecord) error { return change(record.GetRollout()) })
	if err != nil {
		return nil, err
	}
	if err := s.carryOut(term, id); err != nil {
		return nil, err
	}
	return s.Get(ctx, id)
}

// orderPause holds a rollout after the step that it is in.
func (s *Rollouts) orderPause(ctx context.Context, term Term, id, by string) (*drydockv1.Rollout, error) {
	return s.order(ctx, term, id, func(rollout *drydockv1.Rollout) error {
		if !active(rollout.GetState()) {
			return refusal.New("pause rollout "+id, refusal.Because("it is "+word(rollout.GetState()), "see `drydock rollout show "+id+"`"))
		}
		rollout.Asked, rollout.Reason = askPause, "is being paused by "+by
		return nil
	})
}

// orderAbort ends a rollout after the step that it is in.
func (s *Rollouts) orderAbort(ctx context.Context, term Term, id, by string) (*drydockv1.Rollout, error) {
	return s.order(ctx, term, id, func(rollout *drydockv1.Rollout) error {
		if over(rollout.GetState()) {
			return refusal.New("abort rollout "+id, refusal.Because("it is "+word(rollout.GetState()), "see `drydock rollout show "+id+"`"))
		}
		rollout.Asked, rollout.Reason, rollout.State = askAbort, "is being aborted by "+by, stateRunning
		return nil
	})
}

// orderResume goes on with one that is paused or has stopped. What failed is tried again.
func (s *Rollouts) orderResume(ctx context.Context, term Term, id, by string) (*drydockv1.Rollout, error) {
	item, err := s.rollout(ctx, id)
	if err == nil {
		err = mayResume(item.Value.GetRollout())
	}
	if err != nil {
		return nil, err
	}
	hosts, err := s.allHosts(ctx, id)
	if err != nil {
		return nil, err
	}
	again := false
	for _, h := range hosts {
		if h.GetState() != hostFailed {
			continue
		}
		again = true
		_, err := journal(ctx, s.Store, s.hostKey(id, h.GetHost()), func(h *drydockv1.RolloutHost) error {
			h.State, h.Problems, h.Deadline, h.Result = hostPending, nil, nil, nil
			h.Attempt++
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	s.Log.Info("rollout resumed", "rollout", id, "by", by)
	return s.order(ctx, term, id, func(rollout *drydockv1.Rollout) error {
		if err := mayResume(rollout); err != nil { // it may have been aborted meanwhile
			return err
		}
		rollout.State, rollout.Reason, rollout.Asked, rollout.Problems = stateRunning, "", "", nil
		rollout.Until, rollout.RedSince, rollout.FailedMoves, rollout.HostsFailed = nil, nil, 0, 0
		if again && rollout.GetStep() == stepAdmit {
			rollout.Step = stepDownload
		}
		return nil
	})
}

// mayResume refuses to go on with a rollout that neither rests nor is about to.
func mayResume(rollout *drydockv1.Rollout) error {
	state, id := rollout.GetState(), rollout.GetId()
	if state == statePaused || state == stateStopped || rollout.GetAsked() == askPause {
		return nil
	}
	return refusal.New("resume rollout "+id, refusal.Because("it is "+word(state), "see `drydock rollout show "+id+"`"))
}

// approve is an operator's word for the gate that a rollout is at.
func (s *Rollouts) approve(ctx context.Context, term Term, id, gate, by string) (*drydockv1.Rollout, error) {
	item, err := s.rollout(ctx, id)
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
		return nil, refusal.New("approve gate "+gate, refusal.Because(fmt.Sprintf("pool %s had no manual gate of this name when rollout %s began", p.Name, id), "see `drydock rollout show "+id+"`"))
	}
	return s.order(ctx, term, id, func(rollout *drydockv1.Rollout) error {
		point := pointOf(rollout)
		if over(rollout.GetState()) || point == "" {
			return refusal.New("approve gate "+gate, refusal.Because("rollout "+id+" does not wait for it now", "see `drydock rollout show "+id+"`"))
		}
		for _, a := range rollout.GetApprovals() {
			if a.GetGate() == gate && a.GetPoint() == point {
				return nil
			}
		}
		rollout.Approvals = append(rollout.Approvals, &drydockv1.GateApproval{Gate: gate, By: by, At: timestamppb.New(s.Now()), Point: point})
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
