package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"

	"drydock/migrate/owner"
	"drydock/pods"
)

// hooks are those in which the restores of a pod's containers wait. A pod goes on as a whole: none of its containers is let
// go before all of them can be.
type hooks []hook

// hooks of a pod that comes here; none for any other.
func (e *Engine) hooks(j owner.Journal, rec *pods.Record) hooks {
	if rec == nil || j.Side != owner.Destination {
		return nil
	}
	var all hooks
	for _, c := range rec.Spec.Containers {
		all = append(all, e.hook(j.Migration, c.Name))
	}
	return all
}

// held tells whether CRIU waits in every hook.
func (a hooks) held() bool {
	for _, h := range a {
		if !h.waiting() {
			return false
		}
	}
	return len(a) > 0
}

// driven tells whether every CRIU that waits is one that containerd will hear of.
func (a hooks) driven() bool {
	for _, h := range a {
		if h.waiting() && !h.driven() {
			return false
		}
	}
	return true
}

// letGo tells whether CRIU has let every task of the pod run.
func (a hooks) letGo() bool {
	for _, h := range a {
		if !h.resumed() {
			return false
		}
	}
	return len(a) > 0
}

// neverRan tells whether no CRIU has let a task run in this boot, although the journal, which has to be on disk before, says
// that a task may have run. One that waits in its hook may be let go on a moment later: see endUnrun.
func (a hooks) neverRan() bool {
	for _, h := range a {
		if !exists(h.script()) || h.mayHaveRun() {
			return false
		}
	}
	return len(a) > 0
}

// release lets every CRIU that waits go on. All of them are reached before the first is told, so that what keeps one of them
// from being told keeps all of them. told is called when one has been told.
func (a hooks) release(ctx context.Context, told func()) (err error) {
	var reached []*os.File
	defer func() {
		for _, fifo := range reached {
			err = errors.Join(err, fifo.Close())
		}
	}()
	for _, h := range a {
		fifo, err := h.reach(ctx)
		if err != nil {
			return fmt.Errorf("reach CRIU in %s: %w", h.dir, err)
		}
		if fifo == nil && !h.released() {
			return fmt.Errorf("no CRIU waits in %s any more", h.dir)
		}
		if fifo != nil {
			reached = append(reached, fifo)
		}
	}
	for _, fifo := range reached {
		if _, err := fifo.WriteString(commitVerdict); err != nil {
			return fmt.Errorf("let CRIU go on: %w", err)
		}
		told()
	}
	return nil
}
