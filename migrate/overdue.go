package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"drydock/migrate/owner"
	"drydock/pods"
)

// Nothing that is seen of a CRIU or a runc tells one that hangs from one that is slow. Where they have nothing left to do that
// takes long, they get far more time than they ever need, and are ended then. Nobody's pages and no file depend on them there,
// whatever the size of the pod.
const (
	// returnWithin is how long a restore may take to return, once CRIU has let the tasks go or everything of it was killed.
	returnWithin = 30 * time.Second
	// letGoWithin is how long CRIU may take to let the tasks go, once it was told to: a tenth of a second, or a few pages over
	// a slow line.
	letGoWithin = 5 * time.Minute
)

// returned waits until runc has returned from every restore. The tasks run without CRIU, or are dead: what has not returned when
// it is late is ended by end, first CRIU and then runc. What returns not even then waits for containerd, and is left to it.
func (r *early) returned(late func() <-chan time.Time, end func() error) error {
	returned := make(chan error, 1)
	go func() { returned <- r.restores.Wait() }()
	for range 3 {
		select {
		case err := <-returned:
			return err
		case <-late():
		}
		if err := end(); err != nil {
			return fmt.Errorf("end a restore that does not return: %w", err)
		}
	}
	return errors.New("containerd has not returned from a restore whose runc was ended: restart containerd")
}

// awaitReturned is returned for the restores of a pod. Nothing is left of one that was ended.
func (e *Engine) awaitReturned(pod string, r *early) error {
	late := func() <-chan time.Time { return time.After(returnWithin) }
	err := r.returned(late, func() error {
		e.Log.Error("a restore does not return, and is ended", "pod", pod, "after", returnWithin)
		return e.Pods.EndRestore(pod)
	})
	if err == nil {
		return nil
	}
	return errors.Join(err, e.Pods.CleanRestore(pod))
}

// overdue tells whether a CRIU that was let go on has not let its tasks go for much longer than that takes.
func (a hooks) overdue(now time.Time) bool {
	for _, h := range a {
		told, err := os.Stat(filepath.Join(h.dir, "released"))
		if err == nil && !h.resumed() && now.Sub(told.ModTime()) > letGoWithin {
			return true
		}
	}
	return false
}

// endOverdue ends the restore of a committed pod whose CRIU hangs. What that leaves of the pod is no pod, which the next look at
// it finds out.
func (e *Engine) endOverdue(_ context.Context, j owner.Journal, rec *pods.Record) error {
	if j.Stage != owner.Committed || !e.hooks(j, rec).overdue(time.Now()) {
		return nil
	}
	e.Log.Error("CRIU does not let the tasks go, and is ended", "pod", j.Pod, "migration", j.Migration, "after", letGoWithin)
	return e.Pods.EndRestore(j.Pod)
}
