package owner

import (
	"context"
	"fmt"
)

// Move names a migration. Its id must never be used again.
type Move struct {
	Pod, Migration string
	// Epoch of the record that the plan was made from.
	Epoch       uint64
	Destination Place
	PostCopy    bool
}

// Begin makes the pod moving, from its owner to m.Destination. It comes right before the freeze, and shows that the store
// can be reached. A Begin that is repeated after the migration was decided is refused.
func (g Registry) Begin(ctx context.Context, m Move) (Record, error) {
	const op = "begin moving"
	return g.lead(ctx, op, m.Pod, func(r *Record) error {
		if r.Migration == m.Migration && r.State == Moving {
			return errDone
		}
		if r.Migration == m.Migration && r.Outcome != Undecided {
			return refuse(op, *r, fmt.Sprintf("migration %s was decided: %s", m.Migration, r.Outcome), "start another migration")
		}
		if r.State == Moving {
			return refuse(op, *r, underWay(*r), "wait for it, or abort it")
		}
		if err := current(op, *r, m.Epoch); err != nil {
			return err
		}
		switch {
		case r.State != Running:
			return refuse(op, *r, "it is "+string(r.State), "start it first")
		case !r.Settled:
			return refuse(op, *r, fmt.Sprintf("%s has not yet reported that it runs (%s)", r.Owner, r.Reason), "wait for that report")
		case r.Owner.Host == m.Destination.Host:
			return refuse(op, *r, "it is on "+r.Owner.Host+" already", "choose another host")
		}
		r.State, r.Settled = Moving, false
		r.Migration, r.Outcome, r.PostCopy = m.Migration, Undecided, m.PostCopy
		r.Source, r.Destination = r.Owner, m.Destination
		r.Reason = underWay(*r)
		return nil
	})
}

// Decide commits or aborts a migration. The first to decide wins: the Outcome of the record that comes back is what was
// decided, which may not be what was asked for. With ErrUnknown nothing is known and nothing may be done.
// A migration that is not on record (never begun, or followed by something else since) is refused.
func (g Registry) Decide(ctx context.Context, pod, migration string, want Outcome) (Record, error) {
	const op = "decide over"
	return g.update(ctx, op, pod, func(r *Record) error {
		if err := onRecord(op, *r, migration); err != nil {
			return err
		}
		if r.State != Moving {
			return errDone
		}
		switch want {
		case Commit:
			r.Owner = r.Destination
			r.Reason = fmt.Sprintf("migration %s committed: %s runs it", migration, r.Owner)
		case Abort:
			r.Reason = fmt.Sprintf("migration %s aborted: %s keeps it", migration, r.Owner)
		default:
			return refuse(op, *r, fmt.Sprintf("%q is no decision", want), "ask for commit or abort")
		}
		r.State, r.Outcome, r.Settled = Running, want, false
		r.Epoch++
		return nil
	})
}

// HandBack gives a committed pod back to its source. Only the destination may ask, only after it has made sure that no
// task of the pod is left on it and that none ever ran there or nobody else saw it run, and only after it has journalled
// HandingBack, so that it never restores again. at is the destination as it is now, perhaps in a later boot.
func (g Registry) HandBack(ctx context.Context, pod, migration string, at Place) (Record, error) {
	const op = "hand back"
	return g.update(ctx, op, pod, func(r *Record) error {
		if err := onRecord(op, *r, migration); err != nil {
			return err
		}
		if r.Outcome == HandedBack || r.Outcome == Abort {
			return errDone
		}
		if r.State != Running || r.Outcome != Commit || r.Settled || r.Owner.Host != at.Host {
			return refuse(op, *r, fmt.Sprintf("it is %s on %s (%s)", r.State, r.Owner, r.Reason), "look again what this host has to do")
		}
		r.Owner, r.Outcome = r.Source, HandedBack
		r.Epoch++
		r.Reason = fmt.Sprintf("migration %s handed back: nobody saw it run on %s", migration, r.Destination)
		return nil
	})
}

func onRecord(op string, r Record, migration string) error {
	if r.Revision == 0 {
		return fmt.Errorf("%s pod %s: %w", op, r.Pod, ErrNotFound)
	}
	if r.Migration != migration {
		return refuse(op, r, fmt.Sprintf("migration %s is not on record; the pod is %s at epoch %d", migration, r.State, r.Epoch),
			"look again what this host has to do")
	}
	return nil
}
