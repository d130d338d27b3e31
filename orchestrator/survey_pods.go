package orchestrator

import (
	"context"
	"slices"
	"sync"

	drydockv1 "drydock/api/drydock/v1"
)

const (
	// maxProbes is how many pods are asked about one by one; of the pods of larger pools the plan knows what hosts report.
	maxProbes = 500
	// probeHosts is how many destinations a pod is tried with.
	probeHosts = 2
)

// probe has the hosts of the pods that are to leave say how large these are, and what keeps them from being moved at all, by
// dry runs.
func (s *survey) probe(ctx context.Context) error {
	var leaving []*surveyed
	for i := range s.pods {
		if s.lacks(s.pods[i].host) {
			leaving = append(leaving, &s.pods[i])
		}
	}
	if len(leaving) > maxProbes {
		return nil
	}
	slots := make(chan struct{}, resolveAtOnce)
	var group sync.WaitGroup
	for _, pod := range leaving {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			s.probePod(ctx, pod)
		})
	}
	group.Wait()
	return ctx.Err()
}

func (s *survey) probePod(ctx context.Context, pod *surveyed) {
	var common []*drydockv1.Refusal
	tried, destinations := 0, s.probesFor(pod.host)
	for _, to := range destinations {
		report, err := s.migrate(ctx, s.r, &drydockv1.MigratePodRequest{Pod: pod.spec.GetName(), To: to, Mode: drydockv1.MigrationMode_MIGRATION_MODE_STOP, DryRun: true}, s.by,
			func(*drydockv1.MigrationProgress) error { return nil })
		if err != nil {
			return // as of now it cannot be tried: it moves, or just came
		}
		reasons := report.GetRefusals()
		if estimate := report.GetEstimate(); estimate != nil {
			pod.used, pod.files = max(pod.used, estimate.GetMemoryBytes()), estimate.GetFileBytes()+estimate.GetImageBytes()
		}
		if len(reasons) == 0 {
			return
		}
		if tried++; tried == 1 {
			common = reasons
			continue
		}
		common = slices.DeleteFunc(common, func(c *drydockv1.Refusal) bool {
			return !slices.ContainsFunc(reasons, func(r *drydockv1.Refusal) bool { return r.GetReason() == c.GetReason() })
		})
	}
	// What every destination is refused for is the pod's own, and no order of the hosts helps.
	if tried > 0 && tried == len(destinations) && len(common) > 0 {
		pod.fixed = common[0]
	}
}

// probesFor are destinations to try, the emptiest first.
func (s *survey) probesFor(from string) []string {
	var names []string
	for _, name := range s.members {
		if name != from && s.away[name] == nil {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return int((s.hosts[b].report.GetInfo().GetMemoryAvailableBytes() - s.hosts[a].report.GetInfo().GetMemoryAvailableBytes()) >> 20)
	})
	return names[:min(len(names), probeHosts)]
}
