package migrate

import (
	"context"
	"errors"
	"fmt"

	"drydock/migrate/owner"
	"drydock/pods"
	"drydock/pods/network"
)

// outdated tells whether what is kept here is of an earlier pod of that name. That one was removed, which nobody can do to a
// pod that may run, so whatever is left of it may go.
func (e *Engine) outdated(pod string, view owner.View) (bool, error) {
	rec, err := e.Pods.Record(pod)
	if errors.Is(err, pods.ErrNotFound) || !view.Known {
		return false, nil
	}
	return err == nil && rec.Born != 0 && rec.Born < view.Record.Born, err
}

// makeRoom takes away what is left here of an earlier pod of that name, and of an earlier stay of this one, before the pod
// is made here. It returns the record that it went by.
func (e *Engine) makeRoom(ctx context.Context, pod string) (owner.Record, error) {
	view, err := e.look(ctx, pod)
	if err != nil {
		return owner.Record{}, err
	}
	old, err := e.outdated(pod, view)
	if err != nil {
		return owner.Record{}, err
	}
	j, err := e.journals.load(pod)
	if err != nil {
		return owner.Record{}, err
	}
	if old {
		return view.Record, e.clean(ctx, pod, j)
	}
	return view.Record, e.forget(ctx, pod, j, view)
}

// tidy does what can be done at once about what is left here of a pod, which is Tend's work a moment later.
func (e *Engine) tidy(ctx context.Context, pod string) error {
	release, held := e.tryHold(pod)
	if !held {
		return nil
	}
	defer release()
	_, err := e.resolve(ctx, pod, nil)
	return err
}

// Remove takes away everything of a pod that the store says is removed. Where something of it stays, it says why.
func (e *Engine) Remove(ctx context.Context, pod string) error {
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	last, err := e.resolve(ctx, pod, nil)
	if err != nil {
		return err
	}
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	if _, err := e.Pods.Record(pod); j.Side == "" && errors.Is(err, pods.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("pod %s is still here (%s): %s: %s", pod, j, last.Action, last.Reason)
}

// last tells whether a host has the last files of a pod that runs nowhere: it may be started on them again.
func last(r owner.Record, host string) bool {
	return (r.State == owner.Stopped || r.State == owner.Lost || r.State == owner.Stopping) && r.Owner.Host == host
}

// shelve ends a pod's tasks and keeps its files, for when it is started again.
func (e *Engine) shelve(ctx context.Context, pod string, j owner.Journal) error {
	if err := e.Pods.Kill(ctx, pod); err != nil && !errors.Is(err, pods.ErrNotFound) {
		return err
	}
	e.endKeepers(pod, j.Migration)
	e.endArrival(ctx, pod)
	err := e.Pods.Unplug(ctx, pod) // after a boot there is no network to unplug
	if err != nil && !errors.Is(err, pods.ErrNotFound) && !errors.Is(err, network.ErrNotFound) {
		return err
	}
	if err := e.removeDir(j.Migration); err != nil {
		return err
	}
	e.place(pod).settle()
	return e.journals.remove(pod)
}

// forget removes what is kept here of a pod that has been started elsewhere since, or was removed.
func (e *Engine) forget(ctx context.Context, pod string, j owner.Journal, view owner.View) error {
	if j.Side != "" || !view.Known {
		return nil
	}
	rec, err := e.Pods.Record(pod)
	if errors.Is(err, pods.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r := view.Record
	if !forgettable(r, e.Here.Host, rec.Epoch) {
		return nil
	}
	e.Log.Info("pod: files are removed", "pod", pod, "state", r.State, "owner", r.Owner.Host)
	return e.Pods.Remove(ctx, pod)
}

// forgettable tells whether the record allows a host to remove the files of a pod that it was last answerable for at epoch.
// A store that does not know the pod, or knows less of it than this host, was restored from a backup or lost: these files
// may be the only ones, so they stay.
func forgettable(r owner.Record, host string, epoch uint64) bool {
	switch {
	case r.Revision == 0 || r.Epoch < epoch:
		return false
	case r.State == owner.Removed:
		return true
	}
	return r.Owner.Host != host && !(r.Destination.Host == host && r.State == owner.Moving)
}

// clean ends everything of a pod here without letting a task run another instruction.
func (e *Engine) clean(ctx context.Context, pod string, j owner.Journal) error {
	if err := e.Pods.Kill(ctx, pod); err != nil && !errors.Is(err, pods.ErrNotFound) {
		return err
	}
	e.endKeepers(pod, j.Migration)
	e.endArrival(ctx, pod)
	if err := e.Pods.Remove(ctx, pod); err != nil {
		return err
	}
	if err := e.removeDir(j.Migration); err != nil {
		return err
	}
	e.place(pod).settle()
	return e.journals.remove(pod)
}
