package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/plan/wire"
	"drydock/orchestrator/refusal"
)

// admit lets the next round begin: the error budget is not spent, the plan still fits what there is, and the window is open long
// enough. Where the plan does not fit any more, another is made for the hosts that are left.
func (x *execution) admit(ctx context.Context, head *drydockv1.Rollout) error {
	for {
		hosts, err := x.allHosts(ctx, x.id)
		if err != nil {
			return err
		}
		if err := x.withinBudget(hosts); err != nil {
			return err
		}
		if err := x.present(ctx, hosts); err != nil {
			return err
		}
		if err := x.refit(ctx, head); err != nil {
			return err
		}
		if head, err = x.head(ctx); err != nil || head.GetRound() >= head.GetRounds() {
			return err
		}
		waited, err := x.window(ctx, head)
		if err != nil {
			return err
		}
		if !waited {
			return x.begin(ctx, head)
		}
	}
}

func (x *execution) withinBudget(hosts []*drydockv1.RolloutHost) error {
	failed := 0
	for _, h := range hosts {
		if h.GetState() == hostFailed {
			failed++
		}
	}
	if failed <= x.pool.ErrorBudget.Hosts {
		return nil
	}
	what := "hosts"
	if failed == 1 {
		what = "host"
	}
	return &setback{fmt.Sprintf("%d %s failed, and the error budget is %d", failed, what, x.pool.ErrorBudget.Hosts), problemsOf(hosts)}
}

// present waits for the hosts that are left to answer, for as long as a boot may take.
func (x *execution) present(ctx context.Context, hosts []*drydockv1.RolloutHost) error {
	deadline := x.Now().Add(x.Timings.BootTimeout)
	return x.wait(ctx, func() (bool, string, time.Time, error) {
		known, err := x.Hosts(ctx)
		if err != nil {
			return false, "", deadline, err
		}
		for _, h := range hosts {
			left := h.GetState() == hostPending || h.GetState() == hostRunning
			if there, ok := known[h.GetHost()]; left && ok && !there.Answers && x.Now().Before(deadline) {
				return false, "host " + h.GetHost() + " does not answer", deadline, nil
			}
		}
		return true, "", deadline, nil
	})
}

// planPatience is how long another plan is looked for where the one that there was does not fit any more.
const planPatience = 5 * time.Minute

// refit is fit, with patience: what is in the way may go away, such as a migration of somebody else's.
func (x *execution) refit(ctx context.Context, head *drydockv1.Rollout) error {
	deadline := x.Now().Add(planPatience)
	return x.wait(ctx, func() (bool, string, time.Time, error) {
		err := x.fit(ctx, head)
		var failed *setback
		if errors.As(err, &failed) && x.Now().Before(deadline) {
			return false, failed.Error(), deadline, nil
		}
		return err == nil, "", deadline, err
	})
}

// fit compares the rounds that are left with what there is, and plans anew where they do not fit.
func (x *execution) fit(ctx context.Context, head *drydockv1.Rollout) error {
	s, _, err := x.surveyLeft(ctx)
	if err != nil {
		return err
	}
	in, err := s.Input(ctx)
	if err != nil {
		return err
	}
	rounds, err := x.allRounds(ctx, x.id)
	if err != nil {
		return err
	}
	left := rounds[min(int(head.GetRound()), len(rounds)):min(int(head.GetRounds()), len(rounds))]
	reason := plan.Verify(in, wire.ToPlan(x.pool.Name, left))
	if reason == nil {
		return nil
	}
	return x.planAnew(ctx, head, s, reason)
}

// planAnew replaces the rounds that are left.
func (x *execution) planAnew(ctx context.Context, head *drydockv1.Rollout, s Survey, reason error) error {
	x.Log.Info("rollout is planned anew", "rollout", x.id, "reason", reason)
	fresh, err := s.Plan(ctx)
	if err != nil {
		return err
	}
	if len(fresh.GetBlockers()) > 0 {
		var reasons []*drydockv1.Refusal
		for _, b := range fresh.GetBlockers() {
			reasons = append(reasons, refusal.Because(blockerText(b), b.GetRemedy()))
		}
		return &setback{"the plan does not hold any more (" + reason.Error() + "), and there is no other", reasons}
	}
	if err := x.writeRounds(ctx, x.id, int(head.GetRound()), fresh.GetRounds()); err != nil {
		return err
	}
	if err := x.dropHosts(ctx, s); err != nil {
		return err
	}
	_, err = x.change(ctx, func(now *drydockv1.Rollout) error {
		now.Rounds = head.GetRound() + int32(len(fresh.GetRounds()))
		now.Skipped = fresh.GetSkipped()
		now.Steps = append(now.Steps, &drydockv1.RolloutStep{Name: "plan anew", Note: reason.Error(), Round: head.GetRound()})
		return nil
	})
	if err == nil {
		x.Record(ctx, "rollout plan", "rollout "+x.id, x.why("planned anew: "+reason.Error()), nil)
	}
	return err
}

// surveyLeft is the pool as the rollout sees it: hosts that it has patched lack nothing, the others what was pinned for them.
func (x *execution) surveyLeft(ctx context.Context) (Survey, Known, error) {
	known := Known{By: x.by(), Patches: map[string]*drydockv1.Patch{}, Away: map[string]*drydockv1.Refusal{}}
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return nil, known, err
	}
	for _, h := range hosts {
		switch h.GetState() {
		case hostPatched:
			known.Patches[h.GetHost()] = &drydockv1.Patch{}
		case hostFailed, hostSkipped:
			known.Away[h.GetHost()] = refusal.Because("it has failed or was left out of this rollout", "see `drydock rollout show "+x.id+"`")
		default:
			known.Patches[h.GetHost()] = h.GetPatch()
		}
	}
	s, err := x.Survey(ctx, x.pool, known)
	return s, known, err
}

// dropHosts takes out the hosts that are left and cannot take part any more: one that is cordoned is skipped, any other has failed.
func (x *execution) dropHosts(ctx context.Context, s Survey) error {
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		why, cordoned := s.Away(h.GetHost())
		if why == nil || h.GetState() == hostFailed || h.GetState() == hostSkipped {
			continue
		}
		if cordoned {
			err = x.skipHost(ctx, h, why)
		} else {
			err = x.failHost(ctx, step{name: stepAdmit}, h, nil, &setback{"it cannot take part", []*drydockv1.Refusal{why}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// window waits until the round may begin, and says whether it had to.
func (x *execution) window(ctx context.Context, head *drydockv1.Rollout) (waited bool, err error) {
	round, err := x.round(ctx, head)
	if err != nil {
		return false, err
	}
	err = x.wait(ctx, func() (bool, string, time.Time, error) {
		ok, why, again := x.pool.WindowSet().MayStart(x.Now(), round.GetDuration().AsDuration())
		waited = waited || !ok
		return ok, why, again, nil
	})
	return waited, err
}

// begin marks the hosts of the round as being patched.
func (x *execution) begin(ctx context.Context, head *drydockv1.Rollout) error {
	round, err := x.round(ctx, head)
	if err != nil {
		return err
	}
	for _, planned := range round.GetHosts() {
		_, err := x.changeHost(ctx, planned.GetHost(), func(h *drydockv1.RolloutHost) error {
			if h.GetState() == hostPending {
				h.State = hostRunning
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
