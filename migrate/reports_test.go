package migrate

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"

	"google.golang.org/protobuf/proto"
)

func TestAReportIsReadAsItWasSavedAndOneThatIsNotThereIsNone(t *testing.T) {
	s := reports{t.TempDir() + "/reports"}
	if got, err := s.load("m1"); got != nil || err != nil {
		t.Errorf("before: %v, %v", got, err)
	}
	want := &drydockv1.MigrationReport{Id: "m1", Pod: "db", Outcome: drydockv1.MigrationOutcome_MIGRATION_OUTCOME_HANDED_BACK, Bytes: 1 << 40}
	if err := s.save(want); err != nil {
		t.Fatal(err)
	}
	if got, err := s.load("m1"); err != nil || !proto.Equal(want, got) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAReportOfANewerProgramIsReadAndOneThatIsCutIsNot(t *testing.T) {
	s := reports{t.TempDir()}
	for content, whole := range map[string]bool{
		`{"id":"m1","addedLater":{"x":[1]},"outcome":"MIGRATION_OUTCOME_COMMITTED"}`: true,
		`{"id":"m1","outcome":"MIGRATION_OUTCOME_ADDED_LATER"}`:                      true,
		`{"id":"m1","outc`: false,
		"":                 false,
	} {
		if err := os.WriteFile(s.path("m1"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := s.load("m1")
		if whole && (err != nil || got.Id != "m1") || !whole && (err == nil || !strings.Contains(err.Error(), "m1")) {
			t.Errorf("%s: %v, %v", content, got, err)
		}
	}
}

func TestAListenerGetsTheReportLastWheneverItCame(t *testing.T) {
	for _, late := range []bool{false, true} {
		f := newFeed()
		report := &drydockv1.MigrationReport{Id: "m1"}
		if late {
			f.end(report)
		}
		f.say(&drydockv1.MigrationProgress{Step: "sync"})
		var steps []string
		err := f.follow(t.Context(), func(r *drydockv1.MigratePodResponse) error {
			if p := r.GetProgress(); p != nil {
				steps = append(steps, p.Step)
				f.end(report)
				return nil
			}
			steps = append(steps, "report "+r.GetReport().Id)
			return nil
		})
		if err != nil || steps[len(steps)-1] != "report m1" || late == (len(steps) == 2) {
			t.Errorf("late is %t: %v, %v", late, steps, err)
		}
		if len(f.listeners) != 0 {
			t.Error("a listener is left")
		}
	}
}

func TestFollowingEndsWithItsListenerAndNotWithTheMigration(t *testing.T) {
	f := newFeed()
	f.say(&drydockv1.MigrationProgress{Step: "sync"})
	gone := errors.New("gone")
	if err := f.follow(t.Context(), func(*drydockv1.MigratePodResponse) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := f.follow(ctx, func(*drydockv1.MigratePodResponse) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || len(f.listeners) != 0 {
		t.Errorf("got %v, %d listeners", err, len(f.listeners))
	}
}
