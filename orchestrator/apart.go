package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
)

// keptApart says of every host to which a pod may not go why not: a pool keeps it apart from a pod that is there, or in the same
// failure domain. Whoever places a pod keeps to it, and not rollouts alone.
func (c *Controller) keptApart(ctx context.Context, spec *drydockv1.PodSpec) (map[string]*drydockv1.Refusal, error) {
	why := map[string]*drydockv1.Refusal{}
	all := c.pools.All()
	for _, name := range sortedKeys(all) {
		if len(plan.ApartOf(all[name], spec.GetName(), spec.GetLabels())) == 0 {
			continue
		}
		s := c.newSurvey(nil, all[name], "")
		var err error
		if s.hosts, err = c.hosts(ctx); err != nil {
			return nil, err
		}
		s.members = membersOf(s.pool, s.hosts)
		if err := s.lookAtPods(ctx); err != nil {
			return nil, err
		}
		maps.Copy(why, s.keptApart(spec))
	}
	return why, nil
}

// keptApart is that of one pool, for the pods on its hosts.
func (s *survey) keptApart(spec *drydockv1.PodSpec) map[string]*drydockv1.Refusal {
	why := map[string]*drydockv1.Refusal{}
	for _, group := range plan.ApartOf(s.pool, spec.GetName(), spec.GetLabels()) {
		for _, other := range s.pods {
			if other.spec.GetName() == spec.GetName() || !slices.Contains(plan.ApartOf(s.pool, other.spec.GetName(), other.spec.GetLabels()), group) {
				continue
			}
			for _, name := range s.members {
				if name == other.host || group.Domain && s.domain(name) == s.domain(other.host) {
					why[name] = because(fmt.Sprintf("host %s: pool %s keeps pod %s apart from %s, which is on %s", name, s.pool.Name, spec.GetName(), other.spec.GetName(), other.host),
						fmt.Sprintf("choose another host, or take one of them out of `pods.apart` %s", group.Group))
				}
			}
		}
	}
	return why
}

// domain is what a host fails together with.
func (s *survey) domain(name string) string {
	return cmp.Or(s.hosts[name].report.GetInfo().GetLabels()[s.pool.AtOnce.FailureDomain], name)
}

// leaveOut takes hosts out of those to choose from, and returns why.
func leaveOut(hosts map[string]host, why map[string]*drydockv1.Refusal) (reasons []*drydockv1.Refusal) {
	for _, name := range sortedKeys(why) {
		if _, there := hosts[name]; there {
			delete(hosts, name)
			reasons = append(reasons, why[name])
		}
	}
	return reasons
}
