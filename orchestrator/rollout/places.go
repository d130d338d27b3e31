package rollout

import (
	"cmp"
	"context"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/plan/wire"
	"drydock/orchestrator/refusal"
)

// moveAnywhere moves a pod to the best of the pool's other hosts that takes it: patched ones first, then by free memory.
func (x *execution) moveAnywhere(ctx context.Context, head *drydockv1.Rollout, from *drydockv1.RolloutHost, pod string) ([]*drydockv1.Refusal, error) {
	record, err := x.Pod(ctx, pod)
	if err != nil {
		return nil, unlessRemoved(err)
	}
	candidates, reasons, err := x.candidates(ctx, head, record.GetSpec())
	if err != nil {
		return nil, err
	}
	for _, to := range candidates {
		if to == from.GetHost() {
			continue
		}
		why, err := x.moveTo(ctx, pod, from.GetHost(), to, from.GetHost()+" is to be patched")
		if err != nil || len(why) == 0 {
			return nil, err
		}
		reasons = append(reasons, why...)
	}
	if len(reasons) == 0 {
		reasons = append(reasons, refusal.Because("there is no other host that it could go to", "add a host to the pool"))
	}
	return reasons, nil
}

// modesFor are those that the pool and a pod allow.
func (x *execution) modesFor(spec *drydockv1.PodSpec) []drydockv1.MigrationMode {
	var modes []drydockv1.MigrationMode
	for _, mode := range []plan.Mode{plan.Stop, plan.Precopy, plan.Postcopy} {
		if slices.Contains(x.pool.Pods.Modes, string(mode)) && (mode != plan.Postcopy || spec.GetAllowPostcopy()) {
			modes = append(modes, wire.Mode(mode))
		}
	}
	return modes
}

// candidates are the pool's hosts that are not being patched, have room, and hold none of those that the pod is kept apart from.
func (x *execution) candidates(ctx context.Context, head *drydockv1.Rollout, spec *drydockv1.PodSpec) ([]string, []*drydockv1.Refusal, error) {
	s, known, err := x.surveyLeft(ctx)
	if err != nil {
		return nil, nil, err
	}
	round, err := x.round(ctx, head)
	if err != nil {
		return nil, nil, err
	}
	var but []string
	for _, h := range round.GetHosts() {
		but = append(but, h.GetHost())
	}
	ranked, reasons := s.Candidates(spec, but)
	slices.SortStableFunc(ranked, func(a, b string) int {
		left := func(host string) int { return len(known.Patches[host].GetPackages()) }
		return cmp.Compare(min(left(a), 1), min(left(b), 1))
	})
	return ranked, reasons, nil
}
