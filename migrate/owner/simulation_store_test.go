package owner

import (
	"context"
	"errors"
)

type ctx = context.Context

// simStore is the store: linearizable, sometimes away, and its answers may be late or lost.
type simStore struct {
	memory Memory
	away   int64 // until then
	leader struct {
		name     string
		revision int64
		expires  int64
	}
}

// client is a Store as a thread of a controller reaches it.
type client struct{ t *thread }

type answer struct {
	r   Record
	rev int64
	err error
}

const storePatience = 60

func (c client) ask(op func() answer) answer {
	w := c.t.p.w
	c.t.step()
	got := answer{err: ErrUnknown}
	wake := c.t.arm()
	timedOut := false
	w.after(w.delay(), func() {
		if w.store.away > w.now {
			return
		}
		a := op()
		if w.chance(w.faults.lose) {
			return
		}
		w.after(w.delay(), func() {
			if !timedOut {
				got = a
				wake()
			}
		})
	})
	w.after(storePatience, wake)
	c.t.park()
	timedOut = true
	c.t.step()
	return got
}

func (c client) Get(ctx ctx, pod string) (Record, error) {
	a := c.ask(func() answer {
		r, err := c.t.p.w.store.memory.Get(ctx, pod)
		return answer{r: r, err: err}
	})
	return a.r, a.err
}

func (c client) CompareAndSwap(ctx ctx, r Record) (int64, error) {
	w, who := c.t.p.w, c.t.p.name
	a := c.ask(func() answer {
		before, _ := w.store.memory.Get(ctx, r.Pod)
		rev, err := w.store.memory.CompareAndSwap(ctx, r)
		if err == nil {
			w.logf("store: %s of %s at epoch %d, %s, settled %t: %s (through %s)", r.State, r.Owner.BootID, r.Epoch, r.Outcome, r.Settled, r.Reason, who)
			w.written(before, r)
		}
		return answer{rev: rev, err: err}
	})
	return a.rev, a.err
}

// owner is the record as it is, for the checker and for the end of a run.
func (w *world) owner() Record {
	r, err := w.store.memory.Get(context.Background(), pod)
	if err != nil && !errors.Is(err, ErrNotFound) {
		w.fail("store: %v", err)
	}
	return r
}
