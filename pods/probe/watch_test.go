package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bench is a host of which the test says what is installed and what a proof finds.
type bench struct {
	mu     sync.Mutex
	stack  string
	err    error
	takes  time.Duration
	active int
	proofs []string
}

func (b *bench) watch() *Watch {
	return &Watch{Prove: b.prove, Log: slog.New(slog.DiscardHandler), Stack: func(context.Context) (string, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.stack, nil
	}}
}

func (b *bench) set(stack string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stack, b.err = stack, err
}

func (b *bench) slow(takes time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.takes = takes
}

func (b *bench) proven() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.proofs)
}

func (b *bench) prove(ctx context.Context) error {
	b.mu.Lock()
	b.active++
	found, stack, err, takes := b.active, b.stack, b.err, b.takes
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.active--
		b.proofs = append(b.proofs, fmt.Sprint(stack, " ", found))
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(takes):
		return err
	}
}

// kept runs do while the watch is kept.
func kept(t *testing.T, b *bench, do func(ctx context.Context, w *Watch)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := b.watch()
		ended := make(chan error, 1)
		go func() { ended <- w.Keep(ctx) }()
		do(ctx, w)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestAHostProvesItselfAtItsStartAndAfterEveryChange(t *testing.T) {
	b := &bench{stack: "first", takes: time.Second}
	kept(t, b, func(ctx context.Context, w *Watch) {
		if p := w.Last(); !p.At.IsZero() {
			t.Errorf("proven before it was tried: %+v", p)
		}
		time.Sleep(time.Hour)
		b.set("second", errors.New("broken"))
		time.Sleep(20 * time.Second)
		if p := w.Last(); p.Stack != "second" || p.Err == nil || p.Took != 2*time.Second {
			t.Errorf("%+v", p)
		}
		b.set("third", nil)
		time.Sleep(20 * time.Second)
		if p := w.Last(); p.Stack != "third" || p.Err != nil {
			t.Errorf("%+v", p)
		}
	})
	if diff := cmp.Diff([]string{"first 1", "second 1", "second 1", "third 1"}, b.proven()); diff != "" {
		t.Error(diff)
	}
}

func TestAfterAFailureAHostIsTriedAgainMoreAndMoreRarely(t *testing.T) {
	b := &bench{stack: "only", err: errors.New("broken")}
	kept(t, b, func(ctx context.Context, w *Watch) {
		time.Sleep(time.Hour)
		if n := len(b.proven()); n < 12 || n > 24 {
			t.Errorf("%d proofs in an hour", n)
		}
		b.set("only", nil)
		time.Sleep(longestRetry + stackEvery)
		if p := w.Last(); p.Err != nil {
			t.Errorf("%+v", p)
		}
	})
}

func TestThereIsOneProofAtATimeAndWhoAsksGetsAFreshOne(t *testing.T) {
	b := &bench{stack: "only", takes: 10 * time.Second}
	kept(t, b, func(ctx context.Context, w *Watch) {
		time.Sleep(beginAfter + time.Second)
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				if p := w.Now(ctx); p.Err != nil || p.Took != 10*time.Second {
					t.Errorf("%+v", p)
				}
			})
		}
		group.Wait()
	})
	if diff := cmp.Diff([]string{"only 1", "only 1", "only 1", "only 1"}, b.proven()); diff != "" {
		t.Error(diff)
	}
}

func TestAProofThatIsCutOffSaysNothingOfTheHost(t *testing.T) {
	b := &bench{stack: "only"}
	kept(t, b, func(ctx context.Context, w *Watch) {
		time.Sleep(time.Minute)
		before := w.Last()
		b.slow(time.Hour)
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if p := w.Now(ctx); !errors.Is(p.Err, context.DeadlineExceeded) {
			t.Errorf("%+v", p)
		}
		if diff := cmp.Diff(before.At, w.Last().At); diff != "" || w.Last().Err != nil {
			t.Errorf("%+v", w.Last())
		}
	})
}
