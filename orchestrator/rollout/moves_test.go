package rollout

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
	"unicode/utf8"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
)

// oneAnswer is a term in which every look at a pod ends with an error.
type oneAnswer struct {
	Term
	err error
}

func (t oneAnswer) Pod(context.Context, string) (*drydockv1.PodRecord, error) { return nil, t.err }

func (t oneAnswer) OwnerOf(context.Context, string) (owner.Record, error) {
	return owner.Record{State: owner.Running, Owner: owner.Place{Host: "h1"}, Settled: true}, nil
}

func (t oneAnswer) Record(context.Context, string, string, string, error) {}

func TestAPodThatCannotBeLookedAtIsNotTakenForOneThatWasRemoved(t *testing.T) {
	silent := errors.New("the store does not answer")
	for name, test := range map[string]struct{ looked, want error }{
		"it was removed":            {refusal.NotFound("pod", "web", "drydock pod ls"), nil},
		"the store does not answer": {silent, silent},
	} {
		t.Run(name, func(t *testing.T) {
			x := &execution{Rollouts: New(Config{Now: time.Now}), Term: oneAnswer{err: test.looked}, pool: &pool.Pool{}}
			h := &drydockv1.RolloutHost{Host: "h1"}
			own, err := x.settled(t.Context(), "web")
			if !errors.Is(err, test.want) || own.State == owner.Running {
				t.Errorf("settled: %v, %v", own, err)
			}
			if _, err := x.moveTo(t.Context(), "web", "h1", "h2", ""); !errors.Is(err, test.want) {
				t.Errorf("moved to a host: %v", err)
			}
			if _, err := x.moveAnywhere(t.Context(), nil, h, "web"); !errors.Is(err, test.want) {
				t.Errorf("moved anywhere: %v", err)
			}
			if err := x.restartOn(t.Context(), &drydockv1.PlanMove{Pod: "web", From: "h1", To: "h2"}); !errors.Is(err, test.want) {
				t.Errorf("restarted: %v", err)
			}
		})
	}
}

func TestARolloutRestsOnlyWhereNoOperatorHasSaidSomethingElseMeanwhile(t *testing.T) {
	for name, test := range map[string]struct {
		asked string
		rest  drydockv1.RolloutState
		want  error
	}{
		"a step failed":                      {"", stateStopped, nil},
		"a step failed while it was paused":  {askPause, stateStopped, nil},
		"a step failed while it was aborted": {askAbort, stateStopped, errAsked},
		"it is paused":                       {askPause, statePaused, nil},
		"it was resumed":                     {"", statePaused, errAsked},
		"it was aborted":                     {askAbort, statePaused, errAsked},
	} {
		t.Run(name, func(t *testing.T) {
			s := kept(t, &drydockv1.Rollout{Id: "r", State: stateRunning, Asked: test.asked})
			x := &execution{Rollouts: s, Term: oneAnswer{}, id: "r", pool: &pool.Pool{}, changed: make(chan struct{})}
			if err := x.rest(t.Context(), test.rest, "why", nil); !errors.Is(err, test.want) {
				t.Errorf("got %v", err)
			}
			head, err := x.head(t.Context())
			want, asked := test.rest, ""
			if test.want != nil {
				want, asked = stateRunning, test.asked
			}
			if err != nil || head.GetState() != want || head.GetAsked() != asked {
				t.Errorf("got %v, %v", head, err)
			}
		})
	}
}

func TestWhatAHookPrintsCanBeStored(t *testing.T) {
	x := &execution{Rollouts: New(Config{Log: slog.New(slog.DiscardHandler)}), pool: &pool.Pool{Name: "web"}, id: "r"}
	output, err := x.command(t.Context(), []string{"printf", `na\357ve \351t\351`}, time.Minute, "h1")
	if err != nil || !utf8.ValidString(output) || output == "" {
		t.Errorf("got %q, %v", output, err)
	}
}
