package orchestrator

import (
	"context"
	"fmt"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/pool"
)

// planPool makes the whole plan of a rollout, and touches nothing.
func (c *Controller) planPool(ctx context.Context, r *reign, p *pool.Pool, refresh bool) (*drydockv1.PoolPlan, error) {
	s := c.newSurvey(r, p, "")
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	if err := s.resolve(ctx, refresh); err != nil {
		return nil, err
	}
	if err := s.probe(ctx); err != nil {
		return nil, err
	}
	return s.makePlan(ctx)
}

// makePlan makes the plan and has it verified.
func (s *survey) makePlan(ctx context.Context) (*drydockv1.PoolPlan, error) {
	in, err := s.input(ctx)
	if err != nil {
		return nil, err
	}
	made, err := plan.Make(in)
	if err != nil {
		return nil, err
	}
	if err := plan.Verify(in, made); err != nil {
		return nil, fmt.Errorf("the plan of pool %s does not hold, which is a fault of Drydock: %w", s.pool.Name, err)
	}
	wire := planWire(made, s.patches)
	wire.Blockers = append(wire.Blockers, s.beyondBudget()...)
	if len(wire.Blockers) > 0 {
		wire.Rounds, wire.Pods, wire.Moves, wire.Restarts, wire.Duration = nil, nil, 0, 0, nil
	}
	return wire, nil
}

// beyondBudget are the hosts that cannot say what they lack, where they are more than may fail: then nothing is begun.
func (s *survey) beyondBudget() []*drydockv1.PlanBlocker {
	if len(s.failed) <= s.pool.ErrorBudget.Hosts {
		return nil
	}
	var blockers []*drydockv1.PlanBlocker
	for _, name := range sortedKeys(s.failed) {
		blockers = append(blockers, &drydockv1.PlanBlocker{Host: name, Reason: s.away[name].GetReason(), Remedy: s.away[name].GetRemedy()})
	}
	return blockers
}

// blocked is a refusal by what is in a plan's way, or nil.
func blocked(p *drydockv1.PoolPlan) error {
	var reasons []*drydockv1.Refusal
	for _, b := range p.GetBlockers() {
		reasons = append(reasons, because(blockerText(b), b.GetRemedy()))
	}
	return refuse("patch pool "+p.GetPool(), reasons...)
}

// blockerText names the pod; that of a host names it already.
func blockerText(b *drydockv1.PlanBlocker) string {
	if b.GetPod() == "" {
		return b.GetReason()
	}
	return fmt.Sprintf("pod %s on %s: %s", b.GetPod(), b.GetHost(), b.GetReason())
}
