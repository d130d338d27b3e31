package owner

import (
	"context"
	"fmt"
)

// Create makes the record of a new pod, which nobody runs yet. A pod of that name that was removed may be created again.
func (g Registry) Create(ctx context.Context, pod string) (Record, error) {
	return g.lead(ctx, "create", pod, func(r *Record) error {
		switch {
		case r.Revision != 0 && r.State == Created:
			return errDone
		case r.Revision != 0 && r.State != Removed:
			return refuse("create", *r, "a pod of that name is "+string(r.State), "choose another name, or remove that pod")
		}
		*r = Record{Pod: pod, State: Created, Epoch: r.Epoch + 1, Born: r.Epoch + 1, Leader: r.Leader, Revision: r.Revision}
		return nil
	})
}

// Start lets at run the pod from nothing: its first start, or after it was stopped or lost at the given epoch.
func (g Registry) Start(ctx context.Context, pod string, epoch uint64, at Place) (Record, error) {
	return g.lead(ctx, "start", pod, func(r *Record) error {
		if r.Epoch == epoch+1 && r.Incarnation == r.Epoch && r.Owner == at {
			return errDone
		}
		if err := current("start", *r, epoch); err != nil {
			return err
		}
		if r.State != Created && r.State != Stopped && r.State != Lost {
			return refuse("start", *r, fmt.Sprintf("it is %s on %s", r.State, r.Owner), "stop it first")
		}
		r.State, r.Owner, r.Settled = Running, at, false
		r.Epoch++
		r.Incarnation = r.Epoch
		r.Migration, r.Outcome, r.Source, r.Destination, r.PostCopy = "", Undecided, Place{}, Place{}, false
		r.Reason = "started on " + at.Host
		return nil
	})
}

// Settle is the owner's report that it runs the pod, plugged in and with all of its memory, under this epoch. It ends
// the duty of the other side of the last migration to keep what it holds.
func (g Registry) Settle(ctx context.Context, pod string, epoch uint64, at Place) (Record, error) {
	return g.update(ctx, "settle", pod, func(r *Record) error {
		if err := current("settle", *r, epoch); err != nil {
			return err
		}
		if r.Settled && r.Owner == at {
			return errDone
		}
		if r.State != Running || r.Owner != at {
			return refuse("settle", *r, fmt.Sprintf("it is %s, and its owner is %s", r.State, r.Owner), "look again what this host has to do")
		}
		r.Settled = true
		return nil
	})
}

// Stop orders the owner to kill the pod. It is stopped when the owner has called ReportStopped.
func (g Registry) Stop(ctx context.Context, pod string, epoch uint64) (Record, error) {
	return g.lead(ctx, "stop", pod, func(r *Record) error {
		if (r.State == Stopping && r.Epoch == epoch) || (r.State == Stopped && r.Epoch == epoch+1) {
			return errDone
		}
		if err := current("stop", *r, epoch); err != nil {
			return err
		}
		switch r.State {
		case Running:
			r.State, r.Reason = Stopping, "stop was asked for"
		case Created, Lost:
			r.State, r.Reason = Stopped, "stop was asked for"
			r.Epoch++
		case Moving:
			return refuse("stop", *r, underWay(*r), "abort it first")
		default:
			return refuse("stop", *r, "it is "+string(r.State), "nothing is left to stop")
		}
		return nil
	})
}

// ReportStopped is the owner's report that no task of a pod that it had to stop is left. at is the host as it is now: a
// later boot of the owner has no task of it either.
func (g Registry) ReportStopped(ctx context.Context, pod string, epoch uint64, at Place) (Record, error) {
	return g.update(ctx, "report stopped", pod, func(r *Record) error {
		if r.State == Stopped && r.Epoch == epoch+1 {
			return errDone
		}
		if err := current("report stopped", *r, epoch); err != nil {
			return err
		}
		if r.State != Stopping || r.Owner.Host != at.Host {
			return refuse("report stopped", *r, fmt.Sprintf("it is %s on %s", r.State, r.Owner), "look again what this host has to do")
		}
		r.State = Stopped
		r.Epoch++
		return nil
	})
}

// Remove forgets a pod that nobody may run.
func (g Registry) Remove(ctx context.Context, pod string, epoch uint64) (Record, error) {
	return g.lead(ctx, "remove", pod, func(r *Record) error {
		if r.State == Removed && r.Epoch == epoch+1 {
			return errDone
		}
		if err := current("remove", *r, epoch); err != nil {
			return err
		}
		if r.Owned() {
			return refuse("remove", *r, fmt.Sprintf("it is %s on %s", r.State, r.Owner), "stop it first")
		}
		r.State, r.Reason = Removed, "removed"
		r.Epoch++
		return nil
	})
}

// ReportLost is the owner's report that no task of the pod is left on it and that none can be brought back. at is the
// host as it is now, perhaps in a later boot than the one on record. The restart policy then applies.
func (g Registry) ReportLost(ctx context.Context, pod string, epoch uint64, at Place, reason string) (Record, error) {
	return g.update(ctx, "report lost", pod, func(r *Record) error {
		return lose(r, "report lost", epoch, at.Host, reason)
	})
}

// lose makes the pod lost, or stopped if that was wanted anyway.
func lose(r *Record, op string, epoch uint64, host, reason string) error {
	if (r.State == Lost || r.State == Stopped) && r.Epoch == epoch+1 {
		return errDone
	}
	if err := current(op, *r, epoch); err != nil {
		return err
	}
	if r.State == Moving {
		return refuse(op, *r, underWay(*r), "decide it first: the destination may hold a complete copy")
	}
	if !r.Owned() || r.Owner.Host != host {
		return refuse(op, *r, fmt.Sprintf("it is %s on %s", r.State, r.Owner), "read it again")
	}
	if r.State == Stopping {
		r.State = Stopped
	} else {
		r.State = Lost
	}
	r.Epoch++
	r.Settled, r.Reason = false, reason
	return nil
}

func underWay(r Record) string {
	return fmt.Sprintf("migration %s from %s to %s is under way", r.Migration, r.Source, r.Destination)
}
