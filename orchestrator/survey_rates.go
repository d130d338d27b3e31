package orchestrator

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/plan/wire"
	"drydock/orchestrator/store"
)

// usualRates are those of docs/performance.md: what forecasts are made with before there were migrations.
func usualRates() plan.Rates {
	return plan.Rates{
		Bandwidth: 250 << 20, Parallel: defaultParallel, Freeze: 350 * time.Millisecond, Move: 2 * time.Second,
		Package: 5 * time.Second, Boot: 2 * time.Minute, Verify: 15 * time.Second,
	}
}

// lastMigrations are those that forecasts go by, the latest first.
func (c *Controller) lastMigrations(ctx context.Context) ([]store.Item[*drydockv1.MigrationRecord], error) {
	const last = 200
	return store.List[drydockv1.MigrationRecord](ctx, c.store, keyMigrations, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(last))
}

// writtenBy is how many bytes of its memory a pod wrote to in a second when it was moved last, where that was seen.
func writtenBy(latestFirst []store.Item[*drydockv1.MigrationRecord]) map[string]int64 {
	written := map[string]int64{}
	for _, item := range latestFirst {
		report := item.Value.GetReport()
		if _, known := written[report.GetPod()]; !known && report.GetWrittenPerSecond() > 0 {
			written[report.GetPod()] = report.GetWrittenPerSecond()
		}
	}
	return written
}

// least is how much must have been sent for its speed to say anything.
const least = 16 << 20

// measured has the rates of past migrations in place of the usual ones. How long a freeze is apart from copying only those tell that
// copied all of the memory meanwhile.
func measured(rates plan.Rates, items []store.Item[*drydockv1.MigrationRecord]) plan.Rates {
	var reports []*drydockv1.MigrationReport
	var speeds []int64
	for _, item := range items {
		report := item.Value.GetReport()
		if report.GetOutcome() != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED || report.GetFreeze() == nil ||
			report.GetMode() == wire.Mode(plan.Precopy) || report.GetMode() == wire.Mode(plan.Postcopy) {
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
