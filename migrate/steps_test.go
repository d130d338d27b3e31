package migrate

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"

	"github.com/google/go-cmp/cmp"
)

// script runs steps that note what is done.
type script struct {
	done   []string
	report *drydockv1.MigrationReport
}

func (s *script) step(name string, err error) step {
	return step{
		name: name,
		do:   func(context.Context) error { s.done = append(s.done, "do "+name); return err },
		undo: func(ctx context.Context) error { s.done = append(s.done, "undo "+name); return ctx.Err() },
	}
}

func (s *script) run(ctx context.Context, steps ...step) error {
	s.report = &drydockv1.MigrationReport{}
	r := &runner{
		steps: steps, report: s.report, progress: func(string, int, int) {}, at: func(context.Context, string) {},
		bytes: func() int64 { return 0 }, now: func() time.Time { return time.Unix(0, 0) },
	}
	return r.run(ctx)
}

func TestStepsThatWereBegunAreUndoneInReverseOrder(t *testing.T) {
	broken := errors.New("broken")
	var s script
	plain := s.step("plain", nil)
	plain.undo = nil
	err := s.run(t.Context(), s.step("a", nil), plain, s.step("b", broken), s.step("c", nil))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	want := []string{"do a", "do plain", "do b", "undo b", "undo a"}
	if diff := cmp.Diff(want, s.done); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	undone := make(map[string]bool)
	for _, entry := range s.report.Steps {
		undone[entry.Name] = entry.Undone
	}
	if diff := cmp.Diff(map[string]bool{"a": true, "plain": false, "b": true}, undone); diff != "" {
		t.Errorf("reported as undone (-want +got):\n%s", diff)
	}
}

func TestAStepThatWasSkippedIsNotUndone(t *testing.T) {
	var s script
	skipped := s.step("skipped", nil)
	skipped.skip = func() string { return "not wanted" }
	if err := s.run(t.Context(), s.step("a", nil), skipped, s.step("b", errors.New("broken"))); err == nil {
		t.Error("no error")
	}
	if slices.Contains(s.done, "do skipped") || slices.Contains(s.done, "undo skipped") {
		t.Errorf("got %v", s.done)
	}
	if got := s.report.Steps[1]; got.Skipped != "not wanted" || got.Undone {
		t.Errorf("reported as %v", got)
	}
}

func TestStepsAreUndoneAlsoAfterTheCallerHasGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var s script
	last := s.step("b", nil)
	last.do = func(ctx context.Context) error { cancel(); return ctx.Err() }
	err := s.run(ctx, s.step("a", nil), last)
	if !errors.Is(err, context.Canceled) || !slices.Equal(s.done, []string{"do a", "undo b", "undo a"}) {
		t.Errorf("got %v, %v", err, s.done)
	}
}

func TestAnUndoThatFailsDoesNotKeepTheOthersFromBeingUndone(t *testing.T) {
	stuck := errors.New("stuck")
	var s script
	b := s.step("b", errors.New("broken"))
	b.undo = func(context.Context) error { return stuck }
	err := s.run(t.Context(), s.step("a", nil), b)
	if !errors.Is(err, stuck) || !slices.Contains(s.done, "undo a") {
		t.Errorf("got %v, %v", err, s.done)
	}
	if s.report.Steps[1].Undone {
		t.Error("reported as undone")
	}
}

func TestAMigrationThatIsOverUndoesNothing(t *testing.T) {
	var s script
	if err := s.run(t.Context(), s.step("a", nil), s.step("b", errOver), s.step("c", nil)); err != nil {
		t.Error(err)
	}
	if !slices.Equal(s.done, []string{"do a", "do b"}) {
		t.Errorf("got %v", s.done)
	}
}
