package rollout

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// kept are rollouts in a store of the test's, without a controller.
func kept(t *testing.T, heads ...*drydockv1.Rollout) *Rollouts {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s := New(Config{Store: db, Log: slog.New(slog.DiscardHandler), Now: time.Now, Prefix: "/t/"})
	for _, head := range heads {
		if _, err := db.Txn().Put(s.rolloutKey(head.GetId()), &drydockv1.RolloutRecord{Rollout: head}).Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestAHostIsKeptFromOthersUntilTheRolloutThatCordonedItHasEnded(t *testing.T) {
	s := kept(t,
		&drydockv1.Rollout{Id: "runs", Pool: "web", State: stateRunning}, &drydockv1.Rollout{Id: "stopped", Pool: "web", State: stateStopped},
		&drydockv1.Rollout{Id: "ended", Pool: "web", State: stateFinished}, &drydockv1.Rollout{Id: "aborted", Pool: "db", State: stateAborted})
	for name, test := range map[string]struct {
		cordon       *drydockv1.Cordon
		refused, web bool
	}{
		"nobody's":              {},
		"an operator's":         {cordon: &drydockv1.Cordon{Owner: "admin"}},
		"a running rollout's":   {cordon: &drydockv1.Cordon{Owner: OwnerPrefix + "runs"}, refused: true},
		"a stopped rollout's":   {cordon: &drydockv1.Cordon{Owner: OwnerPrefix + "stopped"}, refused: true},
		"an ended rollout's":    {cordon: &drydockv1.Cordon{Owner: OwnerPrefix + "ended"}, web: true},
		"one's of another pool": {cordon: &drydockv1.Cordon{Owner: OwnerPrefix + "aborted"}},
		"a forgotten one's":     {cordon: &drydockv1.Cordon{Owner: OwnerPrefix + "gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.MayTouch(t.Context(), "drain host h1", test.cordon)
			if got := len(refusal.Of(err)) == 1; got != test.refused || err != nil && !test.refused {
				t.Errorf("got %v", err)
			}
			if got, err := s.HasLeft(t.Context(), "web", test.cordon); err != nil || got != test.web {
				t.Errorf("left by a rollout of web: %t, %v", got, err)
			}
		})
	}
}

func TestALeaderWhoseTermIsOverJournalsNothing(t *testing.T) {
	s := kept(t, &drydockv1.Rollout{Id: "r", Step: "cordon"})
	term, err := s.Store.Campaign(t.Context(), "/t/leader", store.Leader{Name: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := store.WithGuard(t.Context(), term)
	step := func(ctx context.Context, name string) error {
		_, err := journal(ctx, s.Store, s.rolloutKey("r"), func(record *drydockv1.RolloutRecord) error {
			record.Rollout.Step = name
			return nil
		})
		return err
	}
	if err := step(ctx, "drain"); err != nil {
		t.Fatal(err)
	}
	if err := term.Resign(); err != nil {
		t.Fatal(err)
	}
	if err := step(ctx, "patch"); !errors.Is(err, store.ErrDeposed) {
		t.Errorf("got %v", err)
	}
	if item, err := s.rollout(t.Context(), "r"); err != nil || item.Value.GetRollout().GetStep() != "drain" {
		t.Errorf("got %v, %v", item.Value, err)
	}
}

func TestARolloutThatNobodyHasBegunIsNotFound(t *testing.T) {
	s := kept(t)
	if _, err := s.Get(t.Context(), "r"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("got %v", err)
	}
	if record, err := s.Pool(t.Context(), "web"); err != nil || record.GetRollout() != "" {
		t.Errorf("got %v, %v", record, err)
	}
}

func TestOfRolloutsThatHaveEndedTheLatestAreKept(t *testing.T) {
	var heads []*drydockv1.Rollout
	begun := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for i := range keepRollouts + 3 {
		heads = append(heads, &drydockv1.Rollout{Id: newID(begun.Add(time.Duration(i) * time.Second)), Pool: "web", State: stateFinished})
	}
	heads[1].State = statePaused
	s := kept(t, heads...)
	deposed, err := s.Store.Campaign(t.Context(), "/t/leader", store.Leader{Name: "c1"})
	if err == nil {
		err = deposed.Resign()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.writeRounds(t.Context(), heads[0].GetId(), 0, []*drydockv1.PlanRound{{Hosts: []*drydockv1.PlanHost{{Host: "h1"}}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.prune(store.WithGuard(t.Context(), deposed)); !errors.Is(err, store.ErrDeposed) {
		t.Errorf("of a leader whose term is over: %v", err)
	}
	if hosts, err := s.allHosts(t.Context(), heads[0].GetId()); err != nil || len(hosts) != 1 {
		t.Errorf("it has deleted hosts: %v, %v", hosts, err)
	}
	if err := s.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := s.List(t.Context(), "web", 0)
	if err != nil || len(left) != keepRollouts+1 || left[len(left)-1].GetId() != heads[1].GetId() || left[0].GetId() != heads[len(heads)-1].GetId() {
		t.Errorf("%d are left: %v", len(left), err)
	}
	hosts, err := s.allHosts(t.Context(), heads[0].GetId())
	if err != nil || len(hosts) != 0 {
		t.Errorf("hosts are left of a rollout that is not: %v, %v", hosts, err)
	}
}
