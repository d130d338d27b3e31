package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	drydockv1 "drydock/api/drydock/v1"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// step is one line of a migration's table: what is done, and how it is undone. Both may be called again.
type step struct {
	name string
	do   func(ctx context.Context) error
	// undo is nil where nothing of the step outlasts a failure.
	undo func(ctx context.Context) error
	// skip, where set, says why the step is left out.
	skip func() string
	// frozen tells that the pod stands still during the step.
	frozen bool
}

// errOver ends the list early and well: what the remaining steps were for has been done another way.
var errOver = errors.New("the migration is over")

// runner runs a list of steps. It is the only place that reports progress, times, and rolls back.
type runner struct {
	steps  []step
	report *drydockv1.MigrationReport
	// progress tells the world about the step that begins.
	progress func(step string, index, count int)
	// at is called at the named points before and after each step, where tests let faults happen.
	at func(ctx context.Context, point string)
	// bytes moved so far, for the steps' reports.
	bytes func() int64
	now   func() time.Time
}

// run does the steps in order. When one fails, those that were begun are undone in reverse order, and the step's error
// is returned together with what could not be undone.
func (r *runner) run(ctx context.Context) error {
	for i, s := range r.steps {
		if s.skip != nil {
			if why := s.skip(); why != "" {
				r.report.Steps = append(r.report.Steps, &drydockv1.StepReport{Name: s.name, Skipped: why})
				continue
			}
		}
		r.progress(s.name, i, len(r.steps))
		r.at(ctx, "before-"+s.name)
		entry, before := &drydockv1.StepReport{Name: s.name, Started: timestamppb.New(r.now()), Frozen: s.frozen}, r.bytes()
		start := r.now()
		err := s.do(ctx)
		entry.Took, entry.Bytes = durationpb.New(r.now().Sub(start)), r.bytes()-before
		r.report.Steps = append(r.report.Steps, entry)
		if errors.Is(err, errOver) {
			return nil
		}
		if err != nil {
			entry.Error = err.Error()
			return errors.Join(fmt.Errorf("%s: %w", s.name, err), r.rollBack(ctx, i))
		}
		r.at(ctx, "after-"+s.name)
	}
	return nil
}

func (r *runner) rollBack(ctx context.Context, failed int) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for i := failed; i >= 0; i-- {
		s := r.steps[i]
		// Every step up to the failed one has its entry, in order.
		entry := r.report.Steps[i]
		if s.undo == nil || entry.Skipped != "" {
			continue
		}
		if err := s.undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", s.name, err))
			continue
		}
		entry.Undone = true
	}
	return errors.Join(errs...)
}
