package owner

import (
	"context"
	"errors"
	"fmt"
)

// tries is how often an operation looks again after a conflict or an unanswered write before it gives the error to its
// caller, who may repeat the operation at any time.
const tries = 4

// ErrRefused is matched by every Refusal.
var ErrRefused = errors.New("refused")

// Refusal says that an operation was not done, what is in its way, and what would remove that. Record is as it was read.
type Refusal struct {
	Operation, Pod   string
	Obstacle, Remedy string
	Record           Record
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s pod %s: refused: %s: %s", r.Operation, r.Pod, r.Obstacle, r.Remedy)
}

// Is makes errors.Is(err, ErrRefused) true.
func (r *Refusal) Is(target error) bool { return target == ErrRefused }

// Registry changes records. Every method may be called again with the same arguments after any error, by anyone and in
// any order: what has been done already is recognised, and what is out of date is refused.
//
// All methods return the record as it is now. Their errors match ErrRefused (with a *Refusal), ErrUnknown, ErrNotFound,
// ErrDeposed, or, when others kept writing, ErrConflict.
type Registry struct {
	Store Store
	// Leader is the caller's leadership revision. Create, Start, Stop, Remove, Begin and Takeover are refused to a lower
	// one than has been seen on the record. The other operations are carried out for an agent by any controller.
	Leader int64
}

// errDone ends a change that has nothing to write.
var errDone = errors.New("already done")

// update reads, lets change alter the record, and writes it back. A write whose outcome is unknown is answered by reading
// again, and change then recognises its own work.
func (g Registry) update(ctx context.Context, op, pod string, change func(*Record) error) (Record, error) {
	var err error
	for range tries {
		if ctx.Err() != nil {
			return Record{}, fmt.Errorf("%s pod %s: %w: %w", op, pod, ErrUnknown, ctx.Err())
		}
		var r Record
		if r, err = g.Store.Get(ctx, pod); errors.Is(err, ErrUnknown) {
			continue
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return Record{}, fmt.Errorf("%s pod %s: %w", op, pod, err)
		}
		next := r
		next.Pod = pod
		if cerr := change(&next); errors.Is(cerr, errDone) {
			return r, nil
		} else if cerr != nil {
			return r, cerr
		}
		if next.Revision, err = g.Store.CompareAndSwap(ctx, next); err == nil {
			return next, nil
		}
		if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrConflict) {
			return Record{}, fmt.Errorf("%s pod %s: %w", op, pod, err)
		}
	}
	return Record{}, fmt.Errorf("%s pod %s: %w", op, pod, err)
}

// lead is update for what only the leader may do.
func (g Registry) lead(ctx context.Context, op, pod string, change func(*Record) error) (Record, error) {
	return g.update(ctx, op, pod, func(r *Record) error {
		if g.Leader < r.Leader {
			return fmt.Errorf("%s pod %s: leadership %d, the record has seen %d: %w", op, pod, g.Leader, r.Leader, ErrDeposed)
		}
		if err := change(r); err != nil {
			return err
		}
		r.Leader = g.Leader
		return nil
	})
}

func refuse(op string, r Record, obstacle, remedy string) error {
	return &Refusal{Operation: op, Pod: r.Pod, Obstacle: obstacle, Remedy: remedy, Record: r}
}

// current refuses when the record is missing or at another epoch than the caller has read.
func current(op string, r Record, epoch uint64) error {
	if r.Revision == 0 {
		return fmt.Errorf("%s pod %s: %w", op, r.Pod, ErrNotFound)
	}
	if r.Epoch != epoch {
		return refuse(op, r, fmt.Sprintf("the pod is %s at epoch %d, not %d", r.State, r.Epoch, epoch), "read it again")
	}
	return nil
}

// Get reads a record. It never answers from memory.
func (g Registry) Get(ctx context.Context, pod string) (Record, error) {
	return g.Store.Get(ctx, pod)
}

// Look is Get as Next wants it: unknown is a value, not an error.
func (g Registry) Look(ctx context.Context, pod string) View {
	r, err := g.Store.Get(ctx, pod)
	switch {
	case err == nil:
		return View{Known: true, Record: r}
	case errors.Is(err, ErrNotFound):
		return View{Known: true}
	}
	return View{}
}
