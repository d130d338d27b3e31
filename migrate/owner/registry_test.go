package owner_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drydock/migrate/owner"
)

var (
	h1 = owner.Place{Host: "h1", BootID: "h1-boot-1"}
	h2 = owner.Place{Host: "h2", BootID: "h2-boot-1"}
)

// running gives a registry with pod p settled on h1, at the epoch that is returned.
func running(t *testing.T, store owner.Store) (owner.Registry, uint64) {
	t.Helper()
	g := owner.Registry{Store: store, Leader: 1}
	r := must(t)(g.Create(t.Context(), "p"))
	r = must(t)(g.Start(t.Context(), "p", r.Epoch, h1))
	r = must(t)(g.Settle(t.Context(), "p", r.Epoch, h1))
	return g, r.Epoch
}

func must(t *testing.T) func(owner.Record, error) owner.Record {
	return func(r owner.Record, err error) owner.Record {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func begin(t *testing.T, g owner.Registry, epoch uint64) owner.Record {
	t.Helper()
	return must(t)(g.Begin(t.Context(), owner.Move{Pod: "p", Migration: "m1", Epoch: epoch, Destination: h2}))
}

func wantRefusal(t *testing.T, err error, obstacle string) {
	t.Helper()
	var r *owner.Refusal
	if !errors.As(err, &r) || !errors.Is(err, owner.ErrRefused) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if r.Obstacle != obstacle || r.Remedy == "" {
		t.Errorf("obstacle %q, remedy %q; want obstacle %q and some remedy", r.Obstacle, r.Remedy, obstacle)
	}
}

func TestTheFirstDecisionWins(t *testing.T) {
	for _, first := range []owner.Outcome{owner.Commit, owner.Abort} {
		t.Run(string(first), func(t *testing.T) {
			g, epoch := running(t, &owner.Memory{})
			begin(t, g, epoch)
			for _, want := range []owner.Outcome{first, owner.Abort, owner.Commit} {
				r := must(t)(g.Decide(t.Context(), "p", "m1", want))
				if r.Outcome != first || r.Epoch != epoch+1 {
					t.Errorf("asked for %s: got %s at epoch %d, want %s at %d", want, r.Outcome, r.Epoch, first, epoch+1)
				}
			}
		})
	}
}

func TestBeginRefusesWhileAnotherMigrationIsUnderWayAndNamesIt(t *testing.T) {
	g, epoch := running(t, &owner.Memory{})
	begin(t, g, epoch)
	_, err := g.Begin(t.Context(), owner.Move{Pod: "p", Migration: "m2", Epoch: epoch, Destination: h2})
	wantRefusal(t, err, "migration m1 from h1 to h2 is under way")
}

func TestBeginRefusesUntilTheOwnerHasReported(t *testing.T) {
	g, epoch := running(t, &owner.Memory{})
	begin(t, g, epoch)
	r := must(t)(g.Decide(t.Context(), "p", "m1", owner.Abort))
	_, err := g.Begin(t.Context(), owner.Move{Pod: "p", Migration: "m2", Epoch: r.Epoch, Destination: h2})
	wantRefusal(t, err, "h1 has not yet reported that it runs (migration m1 aborted: h1 keeps it)")
	must(t)(g.Settle(t.Context(), "p", r.Epoch, h1))
	must(t)(g.Begin(t.Context(), owner.Move{Pod: "p", Migration: "m2", Epoch: r.Epoch, Destination: h2}))
}

func TestHandBackIsRefusedOnceTheDestinationHasSettled(t *testing.T) {
	g, epoch := running(t, &owner.Memory{})
	begin(t, g, epoch)
	r := must(t)(g.Decide(t.Context(), "p", "m1", owner.Commit))
	must(t)(g.Settle(t.Context(), "p", r.Epoch, h2))
	_, err := g.HandBack(t.Context(), "p", "m1", h2)
	wantRefusal(t, err, "it is running on h2 (migration m1 committed: h2 runs it)")
}

func TestHandBackGivesThePodToItsSource(t *testing.T) {
	g, epoch := running(t, &owner.Memory{})
	begin(t, g, epoch)
	must(t)(g.Decide(t.Context(), "p", "m1", owner.Commit))
	for range 2 {
		r := must(t)(g.HandBack(t.Context(), "p", "m1", h2))
		if r.Owner != h1 || r.Outcome != owner.HandedBack || r.Epoch != epoch+2 || r.Settled {
			t.Errorf("got %+v", r)
		}
	}
}

func TestTakeoverNeedsProof(t *testing.T) {
	for name, tt := range map[string]struct {
		proof owner.Proof
		ok    bool
	}{
		"none":                       {proof: owner.Proof{Host: "h1", Epoch: 2}},
		"the boot that is on record": {proof: owner.Proof{Kind: owner.NewBoot, Host: "h1", Now: h1.BootID, Epoch: 2}},
		"an answer from before":      {proof: owner.Proof{Kind: owner.NewBoot, Host: "h1", Now: "h1-boot-0", Epoch: 1}},
		"a fence from before":        {proof: owner.Proof{Kind: owner.Fenced, Host: "h1", Epoch: 1}},
		"another host":               {proof: owner.Proof{Kind: owner.Fenced, Host: "h2", Epoch: 2}},
		"a new boot":                 {proof: owner.Proof{Kind: owner.NewBoot, Host: "h1", Now: "h1-boot-2", Epoch: 2}, ok: true},
		"a fence":                    {proof: owner.Proof{Kind: owner.Fenced, Host: "h1", Epoch: 2}, ok: true},
		"the operator":               {proof: owner.Proof{Kind: owner.ConfirmedDead, Host: "h1", Epoch: 2}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			g, epoch := running(t, &owner.Memory{})
			r, err := g.Takeover(t.Context(), "p", epoch, tt.proof)
			if ok := err == nil; ok != tt.ok {
				t.Fatalf("error %v, want success %t", err, tt.ok)
			}
			if tt.ok && r.State != owner.Lost {
				t.Errorf("state %s, want lost", r.State)
			}
		})
	}
}

func TestAnOldLeaderIsRefused(t *testing.T) {
	store := &owner.Memory{}
	g, epoch := running(t, store)
	newer := owner.Registry{Store: store, Leader: 7}
	begin(t, newer, epoch)
	must(t)(newer.Decide(t.Context(), "p", "m1", owner.Abort))
	if _, err := g.Stop(t.Context(), "p", epoch+1); !errors.Is(err, owner.ErrDeposed) {
		t.Errorf("got %v, want ErrDeposed", err)
	}
}

func TestAPodCanBeStoppedStartedAndRemoved(t *testing.T) {
	g, epoch := running(t, &owner.Memory{})
	for range 2 {
		must(t)(g.Stop(t.Context(), "p", epoch))
	}
	_, err := g.Start(t.Context(), "p", epoch, h2)
	wantRefusal(t, err, "it is stopping on h1")
	for range 2 {
		must(t)(g.ReportStopped(t.Context(), "p", epoch, h1))
	}
	for range 2 {
		must(t)(g.Start(t.Context(), "p", epoch+1, h2))
	}
	must(t)(g.Stop(t.Context(), "p", epoch+2))
	must(t)(g.ReportStopped(t.Context(), "p", epoch+2, h2))
	must(t)(g.Remove(t.Context(), "p", epoch+3))
	r := must(t)(g.Create(t.Context(), "p"))
	want := owner.Record{Version: 1, Pod: "p", State: owner.Created, Epoch: epoch + 5, Born: epoch + 5, Leader: 1, Revision: r.Revision}
	if diff := cmp.Diff(want, must(t)(g.Get(t.Context(), "p"))); diff != "" {
		t.Error(diff)
	}
}

// lateStore answers ErrUnknown to a write, having done it.
type lateStore struct {
	owner.Store
	late int
}

func (s *lateStore) CompareAndSwap(ctx context.Context, r owner.Record) (int64, error) {
	rev, err := s.Store.CompareAndSwap(ctx, r)
	if s.late > 0 {
		s.late--
		return 0, owner.ErrUnknown
	}
	return rev, err
}

func TestAnUnansweredWriteIsAnsweredByReading(t *testing.T) {
	store := &lateStore{Store: &owner.Memory{}}
	g, epoch := running(t, store)
	store.late = 1
	begin(t, g, epoch)
	store.late = 1
	r := must(t)(g.Decide(t.Context(), "p", "m1", owner.Commit))
	if r.Outcome != owner.Commit || r.Epoch != epoch+1 {
		t.Errorf("got %+v", r)
	}
}

func TestARecordOfANewerLayoutIsRefused(t *testing.T) {
	if _, err := owner.Decode([]byte(`{"version":2,"pod":"p"}`), 1); err == nil {
		t.Error("a record of layout 2 was read")
	}
}

func TestTheFenceRemembersAcrossRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fence.json")
	for i, tt := range []struct {
		pod    string
		epoch  uint64
		leader int64
		ok     bool
	}{
		{"p", 3, 5, true}, {"p", 3, 5, true}, {"p", 2, 5, false}, {"p", 4, 4, false},
		{"q", 1, 6, true}, {"p", 4, 5, false}, {"p", 4, 0, true}, {"p", 3, 0, false},
	} {
		f, err := owner.OpenFence(path)
		if err != nil {
			t.Fatal(err)
		}
		err = f.Admit(tt.pod, tt.epoch, tt.leader)
		if ok := err == nil; ok != tt.ok || !ok && !errors.Is(err, owner.ErrFenced) {
			t.Errorf("order %d: %v, want success %t", i, err, tt.ok)
		}
	}
}

func TestTheJournalComesBackAsItWasSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.json")
	if j, err := owner.LoadJournal(path); err != nil || j != (owner.Journal{}) {
		t.Fatalf("without a file: %+v, %v", j, err)
	}
	want := owner.Journal{Version: 1, Pod: "p", Side: owner.Source, Stage: owner.Frozen, Incarnation: 2, BootID: "b",
		Migration: "m1", Epoch: 4, Peer: h2, PostCopy: true, Attempts: 1, Ran: true}
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	if j, err := owner.LoadJournal(path); err != nil || j != want {
		t.Errorf("%v: %v", err, cmp.Diff(want, j))
	}
	if err := owner.RemoveJournal(path); err != nil {
		t.Error(err)
	}
}
