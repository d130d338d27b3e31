package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Migrate runs a migration with this host as its source, and tells sink how it goes; the report comes last. A migration
// that runs, or has ended, is followed. When ctx ends, only the following does.
func (e *Engine) Migrate(ctx context.Context, spec *drydockv1.MigrationSpec, sink func(*drydockv1.MigratePodResponse) error) error {
	f, err := e.start(ctx, spec)
	if err != nil {
		return err
	}
	return f.follow(ctx, sink)
}

func (e *Engine) start(ctx context.Context, spec *drydockv1.MigrationSpec) (*feed, error) {
	if f := e.running(spec.Pod, spec.Id); f != nil {
		return f, nil
	}
	if report, err := e.reports().load(spec.Id); err != nil || report != nil {
		f := newFeed()
		f.end(report)
		return f, err
	}
	release, err := e.hold(ctx, spec.Pod)
	if err != nil {
		return nil, err
	}
	if f := e.running(spec.Pod, spec.Id); f != nil {
		release()
		return f, nil
	}
	m := &move{Engine: e, spec: spec, feed: newFeed(), report: &drydockv1.MigrationReport{
		Id: spec.Id, Pod: spec.Pod, From: spec.From, To: spec.To, Mode: spec.Mode, DryRun: spec.DryRun, Started: timestamppb.Now(),
	}}
	e.place(spec.Pod).heard() // patience with the destination begins now
	e.place(spec.Pod).setMoving(m)
	go func() {
		defer release()
		m.run(context.WithoutCancel(ctx))
	}()
	return m.feed, nil
}

func (e *Engine) running(pod, migration string) *feed {
	return e.place(pod).running(migration)
}

// run takes the migration from its beginning, or from where an agent that is gone left it, to its report.
func (m *move) run(ctx context.Context) {
	if err := m.work(ctx); err != nil {
		m.report.Error = err.Error()
		var refused *Refused
		if errors.As(err, &refused) {
			m.report.Outcome, m.report.Refusals = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED, refused.Reasons
		} else if m.report.Outcome == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_UNSPECIFIED {
			m.report.Outcome = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED
		}
	}
	m.close()
	m.report.Finished, m.report.Bytes = timestamppb.Now(), m.bytes.Load()
	if m.spec.DryRun {
		m.Engine.place(m.spec.Pod).setMoving(nil)
		m.end(m.report)
		return // no controller has it on record
	}
	if err := m.reports().save(m.report); err != nil {
		m.Log.Error("keep the report", "migration", m.spec.Id, "error", err)
	}
	m.Engine.place(m.spec.Pod).setMoving(nil)
	m.end(m.report)
	m.deliver(ctx)
}

func (m *move) work(ctx context.Context) error {
	j, err := m.journals.load(m.spec.Pod)
	if err != nil {
		return err
	}
	m.incarnation = j.Incarnation
	if j.Side == owner.Source && j.Migration == m.spec.Id {
		m.Engine.place(m.spec.Pod).interrupt()
		return errors.Join(errors.New("the source's agent was restarted during the migration"), m.settle(ctx))
	}
	view, err := m.look(ctx, m.spec.Pod)
	if err != nil {
		return err
	}
	m.record = view.Record
	if view.Record.Migration == m.spec.Id && view.Record.Outcome != owner.Undecided {
		return m.recall(view.Record)
	}
	if j.Side != owner.Resident {
		return refuse(fmt.Sprintf("pod %s is not settled on this host (%s)", m.spec.Pod, j), "wait until its last migration is over")
	}
	start := time.Now()
	r := &runner{
		steps: m.steps(), report: m.report, bytes: m.bytes.Load, now: time.Now,
		at:       func(ctx context.Context, point string) { m.At(ctx, "source-"+strings.ReplaceAll(point, " ", "-")) },
		progress: func(step string, index, count int) { m.progress(start, step, index, count) },
	}
	return r.run(ctx)
}

// recall reports on a migration that ended while nobody was looking.
func (m *move) recall(r owner.Record) error {
	m.report.Outcome = outcomeOf(r)
	return errors.New("the source's agent was restarted during the migration; its steps are not known")
}

func (m *move) progress(start time.Time, step string, index, count int) {
	p := &drydockv1.MigrationProgress{
		Migration: m.spec.Id, Pod: m.spec.Pod, Step: step, StepIndex: int32(index + 1), StepCount: int32(count), Bytes: m.bytes.Load(),
	}
	if estimate := m.report.Estimate; estimate != nil {
		p.BytesTotal = estimate.MemoryBytes + estimate.FileBytes + max(0, estimate.ImageBytes)
		if total := estimate.Total.AsDuration(); total > 0 {
			p.Remaining = durationpb.New(max(0, total-time.Since(start)))
		}
	}
	if elapsed := time.Since(start).Seconds(); elapsed > 0 {
		p.BytesPerSecond = int64(float64(p.Bytes) / elapsed)
	}
	m.say(p)
}

func modeName(mode drydockv1.MigrationMode) string {
	return strings.ToLower(strings.TrimPrefix(mode.String(), "MIGRATION_MODE_"))
}

// Refused says why a migration was not begun. Nothing was changed.
type Refused struct{ Reasons []*drydockv1.Refusal }

func (r *Refused) Error() string {
	var parts []string
	for _, reason := range r.Reasons {
		parts = append(parts, reason.Reason+": "+reason.Remedy)
	}
	return "refused: " + strings.Join(parts, "; ")
}

func refuse(reason, remedy string) *Refused {
	return &Refused{[]*drydockv1.Refusal{{Reason: reason, Remedy: remedy}}}
}
