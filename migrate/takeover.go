package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/pods"

	"golang.org/x/sys/unix"
)

// release lets CRIU's tasks run: the pod is this host's.
func (e *Engine) release(ctx context.Context, j owner.Journal) error {
	rec, err := e.Pods.Record(j.Pod)
	if err != nil {
		return err
	}
	j.Stage, j.Ran, j.Unshared = owner.Committed, true, !shares(rec.Spec)
	if err := e.journals.save(j); err != nil {
		return err
	}
	hooks := e.hooks(j, rec)
	if !hooks.driven() {
		return fmt.Errorf("runc does not wait for CRIU any more: the tasks of pod %s are not let run", j.Pod)
	}
	if err := e.letGoOn(ctx, hooks); err != nil {
		return err
	}
	return e.awaitResumed(ctx, j, rec, hooks)
}

// shares tells whether a pod's tasks can be seen at work without a packet of the pod: on a volume that other hosts see too.
func shares(spec *drydockv1.PodSpec) bool {
	return slices.ContainsFunc(spec.Volumes, func(v *drydockv1.Volume) bool { return v.GetLocal() == nil && v.GetMemory() == nil })
}

// finishRelease does what an agent that ended in the middle of release has left to do: some containers run, and others wait.
func (e *Engine) finishRelease(ctx context.Context, j owner.Journal) error {
	if j.Side != owner.Destination || j.Stage != owner.Committed || !j.Ran || j.BootID != e.Here.BootID {
		return nil
	}
	rec, err := e.Pods.Record(j.Pod)
	if err != nil {
		return err
	}
	return e.letGoOn(ctx, e.hooks(j, rec))
}

// letGoOn tells every CRIU that waits that the pod was committed. The journal says so already.
func (e *Engine) letGoOn(ctx context.Context, hooks hooks) error {
	return hooks.release(ctx, func() { e.At(ctx, "destination-in-run") })
}

// awaitResumed waits until CRIU has let every task go, whoever started it, or has ended without. What runc and containerd
// have still to do then, nobody waits for. In post-copy it waits only a moment: CRIU itself needs some of the missing pages in
// order to let the tasks go, and with the source gone they never come, which only a new look at everything tells.
func (e *Engine) awaitResumed(ctx context.Context, j owner.Journal, rec *pods.Record, hooks hooks) error {
	for n := 0; !hooks.letGo(); n++ {
		if n%100 == 99 {
			state, err := e.Pods.StateOf(ctx, rec)
			if err != nil || !state.Busy || j.PostCopy || hooks.overdue(time.Now()) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Microsecond):
		}
	}
	return nil
}

// plugIn lets the network through.
func (e *Engine) plugIn(ctx context.Context, j owner.Journal, r owner.Record) error {
	if j.Side != owner.Destination {
		return e.plugBack(ctx, j.Pod)
	}
	coming := e.place(j.Pod).arrival()
	e.At(ctx, "destination-before-plug-in")
	unseen := !j.Seen()
	j.Stage, j.Ran = owner.PluggedIn, true
	if unseen {
		// From here on the pod may be heard of, and is never handed back.
		if err := e.journals.save(j); err != nil {
			return err
		}
	}
	if coming != nil {
		coming.tell(eventRunning)
		if coming.loopback != nil {
			if _, err := coming.loopback.Release(ctx); err != nil {
				return err
			}
		}
		stats, err := coming.packets().Release(ctx)
		if err != nil {
			return err
		}
		e.place(j.Pod).setFrames(stats.In.Frames + stats.Out.Frames)
	}
	if !unseen {
		// It counts as seen already, so no client waits for this.
		if err := e.journals.save(j); err != nil {
			return err
		}
	}
	if coming == nil {
		// An earlier agent's holding port, and what it kept, went with it.
		if err := e.Pods.SweepNetwork(ctx, j.Pod); err != nil {
			return err
		}
	}
	if err := e.Pods.PlugIn(ctx, j.Pod); err != nil {
		return err
	}
	e.At(ctx, "destination-after-plug-in")
	if j.PostCopy {
		// It settles only when its last page is here, which may take a while. Then what fails now is tried again.
		if err := e.flush(ctx, j); err != nil {
			e.Log.Warn("the pod's files are not on this host's disk yet", "pod", j.Pod, "error", err)
		}
	}
	return nil
}

// plugBack plugs in a pod that stays here. What an earlier agent had ready to catch its packets is removed.
func (e *Engine) plugBack(ctx context.Context, pod string) error {
	if err := e.Pods.SweepNetwork(ctx, pod); err != nil {
		return err
	}
	return e.Pods.PlugIn(ctx, pod)
}

// flush puts the files that came with the pod on this host's disk. It comes before the pod settles, so that the source keeps
// its own until then, and after the pod runs, so that no client waits for it.
func (e *Engine) flush(ctx context.Context, j owner.Journal) error {
	if j.Side != owner.Destination {
		return nil
	}
	if coming := e.place(j.Pod).arrival(); coming != nil {
		return coming.flush()
	}
	// An earlier agent received them.
	trees, err := e.Pods.Trees(ctx, j.Pod)
	if err != nil {
		return err
	}
	for _, t := range trees {
		if err := syncTree(t.Dir); err != nil {
			return fmt.Errorf("bring %s of pod %s to disk: %w", t.Name, j.Pod, err)
		}
	}
	return nil
}

func syncTree(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
}

func (a *arrival) flush() error {
	a.mu.Lock()
	files := slices.Clone(a.files)
	a.mu.Unlock()
	for _, target := range files {
		if err := target.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// dropCopy undoes everything of a pod that was to come here and never ran.
func (e *Engine) dropCopy(ctx context.Context, j owner.Journal) error {
	if coming := e.place(j.Pod).arrival(); coming != nil {
		coming.fallSilent(ctx) // at once, also where containerd is away: the pod is about to answer elsewhere
	}
	if rec, err := e.Pods.Record(j.Pod); err == nil {
		e.abandon(ctx, j, rec.Spec)
	}
	return e.clean(ctx, j.Pod, j)
}

// handBack gives a committed pod back that has not run here, or that nobody saw running.
func (e *Engine) handBack(ctx context.Context, j owner.Journal) (*owner.Record, error) {
	if rec, err := e.Pods.Record(j.Pod); err == nil {
		if err := e.endUnseen(ctx, j, rec.Spec); err != nil {
			return nil, err
		}
	}
	j.Stage = owner.HandingBack
	if err := e.journals.save(j); err != nil {
		return nil, err
	}
	if coming := e.place(j.Pod).arrival(); coming != nil {
		coming.fallSilent(ctx) // what the pod sent here was never sent, and it is about to answer elsewhere
	}
	return learn(e.Store.HandBack(ctx, j.Pod, j.Migration, e.Here))
}

// endUnrun ends what CRIU has made of a pod that never ran here, and makes sure that it never did: only when no CRIU is left
// is it certain that none was let go on meanwhile.
func (e *Engine) endUnrun(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) error {
	disk, err := e.endCopy(ctx, j, spec)
	if err == nil && disk.Ran && !e.hooks(j, &pods.Record{Spec: spec}).neverRan() {
		err = fmt.Errorf("tasks of pod %s have run here after all", j.Pod)
	}
	return err
}

// endUnseen is endUnrun for a pod that may have run, but was not seen.
func (e *Engine) endUnseen(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) error {
	disk, err := e.endCopy(ctx, j, spec)
	if err == nil && disk.Seen() && !e.hooks(j, &pods.Record{Spec: spec}).neverRan() {
		err = fmt.Errorf("tasks of pod %s have run here after all, and may have been seen", j.Pod)
	}
	return err
}

// endCopy ends whatever CRIU has made of the pod here, and returns the journal as it is on disk then.
func (e *Engine) endCopy(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) (owner.Journal, error) {
	e.abandon(ctx, j, spec)
	if err := e.Pods.Kill(ctx, j.Pod); err != nil {
		return owner.Journal{}, err
	}
	return e.journals.load(j.Pod)
}
