package orchestrator

import (
	"context"
	"fmt"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/plan/wire"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/rollout"
)

var _ rollout.Survey = (*survey)(nil)

// planPool makes the whole plan of a rollout, and touches nothing.
func (c *Controller) planPool(ctx context.Context, r *reign, p *pool.Pool, refresh bool) (*drydockv1.PoolPlan, error) {
	s := c.newSurvey(r, p, "")
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	if err := s.resolve(ctx, refresh); err != nil {
		return nil, err
	}
	return s.Plan(ctx)
}

// Plan tries by dry runs whether the pods that are to leave can be moved, and makes the plan.
func (s *survey) Plan(ctx context.Context) (*drydockv1.PoolPlan, error) {
	if err := s.probe(ctx); err != nil {
		return nil, err
	}
	return s.makePlan(ctx)
}

// Away is why a host takes no part, or nil, and whether it is because it is cordoned.
func (s *survey) Away(host string) (why *drydockv1.Refusal, cordoned bool) {
	return s.away[host], s.hosts[host].state == hostCordoned
}

// Candidates are the hosts that take part, have room for a pod, and hold none of those that it is kept apart from.
func (s *survey) Candidates(spec *drydockv1.PodSpec, except []string) (names []string, reasons []*drydockv1.Refusal) {
	members := map[string]host{}
	for _, name := range s.members {
		if s.away[name] == nil {
			members[name] = s.hosts[name]
		}
	}
	reasons = leaveOut(members, s.keptApart(spec))
	ranked, more := rank(members, needOf(spec), except)
	for _, h := range ranked {
		names = append(names, h.name())
	}
	return names, append(reasons, more...)
}

// makePlan makes the plan and has it verified.
func (s *survey) makePlan(ctx context.Context) (*drydockv1.PoolPlan, error) {
	in, err := s.Input(ctx)
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
	message := wire.FromPlan(made, s.patches)
	message.Blockers = append(append(message.Blockers, s.beyondBudget()...), s.beyondWindows(made)...)
	if len(message.Blockers) > 0 {
		message.Rounds, message.Pods, message.Moves, message.Restarts, message.Duration = nil, nil, 0, 0, nil
	}
	return message, nil
}

// beyondWindows are the rounds that would wait for ever, since no window is open for as long as they take.
func (s *survey) beyondWindows(made *plan.Plan) []*drydockv1.PlanBlocker {
	longest := s.pool.WindowSet().Longest()
	var blockers []*drydockv1.PlanBlocker
	for _, round := range made.Rounds {
		if longest == 0 || round.Duration <= longest {
			continue
		}
		var names []string
		for _, step := range round.Hosts {
			names = append(names, step.Host)
		}
		blockers = append(blockers, &drydockv1.PlanBlocker{
			Host: names[0],
			Reason: fmt.Sprintf("patching %s takes about %s, and pool %s has no window of more than %s",
				strings.Join(names, ", "), round.Duration.Round(time.Second), s.pool.Name, longest),
			Remedy: "make a window of the pool longer; or allow its pods less, so that fewer or shorter moves are needed",
		})
	}
	return blockers
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
