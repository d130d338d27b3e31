package orchestrator

import (
	"cmp"
	"context"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
)

// moveAnywhere moves a pod to the best of the pool's other hosts that takes it: patched ones first, then by free memory.
func (x *execution) moveAnywhere(ctx context.Context, head *drydockv1.Rollout, from *drydockv1.RolloutHost, pod string) ([]*drydockv1.Refusal, error) {
	item, err := x.pod(ctx, pod)
	if err != nil {
		return nil, nil
	}
	candidates, reasons, err := x.candidates(ctx, head, item.Value.GetSpec())
	if err != nil {
		return nil, err
	}
	for _, to := range candidates {
		if to.name() == from.GetHost() {
			continue
		}
		why, err := x.moveTo(ctx, pod, from.GetHost(), to.name(), from.GetHost()+" is to be patched")
		if err != nil || len(why) == 0 {
			return nil, err
		}
		reasons = append(reasons, why...)
	}
	if len(reasons) == 0 {
		reasons = append(reasons, because("there is no other host that it could go to", "add a host to the pool"))
	}
	return reasons, nil
}

// modesFor are those that the pool and a pod allow.
func (x *execution) modesFor(spec *drydockv1.PodSpec) []drydockv1.MigrationMode {
	var modes []drydockv1.MigrationMode
	for _, mode := range []plan.Mode{plan.Stop, plan.Precopy, plan.Postcopy} {
		if slices.Contains(x.pool.Pods.Modes, string(mode)) && (mode != plan.Postcopy || spec.GetAllowPostcopy()) {
			modes = append(modes, planModes[mode])
		}
	}
	return modes
}

// candidates are the pool's hosts that are not being patched, have room, and hold none of those that the pod is kept apart from.
func (x *execution) candidates(ctx context.Context, head *drydockv1.Rollout, spec *drydockv1.PodSpec) ([]host, []*drydockv1.Refusal, error) {
	s, err := x.surveyLeft(ctx)
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
	members := map[string]host{}
	for _, name := range s.members {
		if s.away[name] == nil {
			members[name] = s.hosts[name]
		}
	}
	reasons := leaveOut(members, s.keptApart(spec))
	ranked, more := rank(members, needOf(spec), but)
	slices.SortStableFunc(ranked, func(a, b host) int {
		left := func(h host) int { return len(s.patches[h.name()].GetPackages()) }
		return cmp.Compare(min(left(a), 1), min(left(b), 1))
	})
	return ranked, append(reasons, more...), nil
}
