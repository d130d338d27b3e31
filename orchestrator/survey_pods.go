package orchestrator

import (
	"context"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/store"
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

// rates are what forecasts are made with: as the last migrations were, and where there were none as docs/performance.md has it.
func (c *Controller) rates(ctx context.Context) (plan.Rates, error) {
	rates := plan.Rates{
		Bandwidth: 250 << 20, Parallel: defaultParallel, Freeze: 350 * time.Millisecond, Move: 2 * time.Second,
		Package: 5 * time.Second, Boot: 2 * time.Minute, Verify: 15 * time.Second,
	}
	const last = 200
	items, err := store.List[drydockv1.MigrationRecord](ctx, c.store, keyMigrations, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(last))
	if err != nil {
		return rates, err
	}
	return measured(rates, items), nil
}

// least is how much must have been sent for its speed to say anything.
const least = 16 << 20

func measured(rates plan.Rates, items []store.Item[*drydockv1.MigrationRecord]) plan.Rates {
	var reports []*drydockv1.MigrationReport
	var speeds []int64
	for _, item := range items {
		report := item.Value.GetReport()
		if report.GetOutcome() != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED || report.GetFreeze() == nil {
			continue
		}
		reports = append(reports, report)
		for _, step := range report.GetSteps() {
			if took := step.GetTook().AsDuration(); step.GetName() == "dump" && step.GetBytes() >= least && took > 0 {
				speeds = append(speeds, int64(float64(step.GetBytes())/took.Seconds()))
			}
		}
	}
	if len(speeds) > 0 {
		rates.Bandwidth = median(speeds)
	}
	var freezes, rests []int64
	for _, report := range reports {
		copying := time.Duration(float64(report.GetEstimate().GetMemoryBytes()) / float64(rates.Bandwidth) * float64(time.Second))
		freezes = append(freezes, int64(max(report.GetFreeze().AsDuration()-copying, 0)))
		all := report.GetFinished().AsTime().Sub(report.GetStarted().AsTime())
		rests = append(rests, int64(max(all-report.GetFreeze().AsDuration(), 0)))
	}
	if len(freezes) > 0 {
		rates.Freeze, rates.Move = time.Duration(median(freezes)), time.Duration(median(rests))
	}
	return rates
}

func median(values []int64) int64 {
	slices.Sort(values)
	return values[len(values)/2]
}
