package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/migrate/owner"
	"drydock/pods"
)

// Create makes a pod that the store says is this host's, and starts it. It may be asked again.
func (e *Engine) Create(ctx context.Context, rec *pods.Record) error {
	pod := rec.Spec.Name
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	if err := e.Damage(pod); err != nil {
		return err
	}
	owned, err := e.makeRoom(ctx, pod)
	if err != nil {
		return err
	}
	if _, err := e.Pods.Record(pod); errors.Is(err, pods.ErrNotFound) {
		rec.Born = owned.Born
		if err := e.Pods.Save(rec); err != nil {
			return err
		}
	}
	last, err := e.resolve(ctx, pod, nil)
	if err != nil {
		return err
	}
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	if j.Side != owner.Resident || j.Stage != owner.Up {
		return fmt.Errorf("pod %s was not started: %s: %s", pod, last.Action, last.Reason)
	}
	return nil
}

// Stop ends a pod that the store says is to be stopped, asking its containers first.
func (e *Engine) Stop(ctx context.Context, pod string, grace time.Duration) error {
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	view := e.Store.Look(ctx, pod)
	if view.Known && view.Record.State == owner.Stopping && view.Record.Owner == e.Here && j.Side == owner.Resident {
		if err := e.Pods.Stop(ctx, pod, grace); err != nil && !errors.Is(err, pods.ErrNotFound) {
			return err
		}
	}
	_, err = e.resolve(ctx, pod, nil)
	return err
}

// WithResident calls do while nobody else acts on a pod that runs here and takes no part in a migration. It does nothing
// for any other pod.
func (e *Engine) WithResident(_ context.Context, pod string, do func() error) error {
	release, held := e.tryHold(pod)
	if !held {
		return nil
	}
	defer release()
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	if j.Side != owner.Resident || j.Stage != owner.Up || j.BootID != e.Here.BootID {
		return nil
	}
	return do()
}

// WithStopped calls do while nobody else acts on a pod that the store says is stopped, and last ran here.
func (e *Engine) WithStopped(ctx context.Context, pod string, do func() error) error {
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	if _, err := e.resolve(ctx, pod, nil); err != nil {
		return err
	}
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	view, err := e.look(ctx, pod)
	if err != nil {
		return err
	}
	if r := view.Record; j.Side != "" || r.State != owner.Stopped || r.Owner.Host != e.Here.Host {
		return fmt.Errorf("pod %s is %s on %s, and not stopped here", pod, orUnknown(r.State), r.Owner.Host)
	}
	return do()
}

// Alone is WithResident for an order: it waits for whoever acts on the pod, and refuses for a pod that does not run here or moves.
func (e *Engine) Alone(ctx context.Context, pod string, do func() error) error {
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	if _, err := e.Pods.Record(pod); err != nil {
		return err
	}
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	if j.Side != owner.Resident || j.Stage != owner.Up || j.BootID != e.Here.BootID {
		return refuse(fmt.Sprintf("pod %s is not settled on this host (%s)", pod, j), "wait until it runs, and its migration is over")
	}
	return do()
}

// WithHeld calls do while nobody else acts on a pod.
func (e *Engine) WithHeld(ctx context.Context, pod string, do func() error) error {
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	return do()
}

func orUnknown(s owner.State) owner.State {
	if s == "" {
		return "not on record"
	}
	return s
}

// Running tells whether a migration runs with this host as its source.
func (e *Engine) Running(pod, migration string) bool { return e.running(pod, migration) != nil }
