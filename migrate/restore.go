package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/pods"
	"drydock/pods/network"

	"github.com/fsnotify/fsnotify"
)

func (e *Engine) prepareTasks(ctx context.Context, spec *drydockv1.PodSpec, migration string, lazy bool) error {
	for _, c := range spec.Containers {
		if _, err := newHook(e.hook(migration, c.Name).dir); err != nil {
			return err
		}
		from := e.restoreFrom(migration, c.Name)
		from.Lazy = lazy
		for _, dir := range []string{from.Images, from.Work} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		if err := e.Pods.PrepareRestore(ctx, spec.Name, c.Name, from); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) restoreFrom(migration, container string) pods.Restore {
	dir := e.dir(migration)
	return pods.Restore{
		Images: filepath.Join(dir, "images", container),
		Work:   e.restoreWork(migration, container),
		Script: e.hook(migration, container).script(),
	}
}

func (e *Engine) restoreWork(migration, container string) string {
	return filepath.Join(e.dir(migration), "work", container)
}

// restore has CRIU rebuild every container, and returns when all of them wait in their hooks, or one has failed.
func (e *Engine) restore(ctx context.Context, j owner.Journal) (err error) {
	e.At(ctx, "destination-before-restore")
	rec, err := e.Pods.Record(j.Pod)
	if err != nil {
		return err
	}
	if j.Attempts > 0 || e.place(j.Pod).arrival() == nil {
		// A CRIU of the last attempt that still waits in its hook must not hear the verdict on this one. And a restore that an
		// earlier agent had begun early has used up the output that containerd's shim had ready for the container.
		if err := e.endUnrun(ctx, j, rec.Spec); err != nil {
			return err
		}
		if coming := e.place(j.Pod).arrival(); coming != nil {
			e.endEarly(j.Pod, coming.restore)
			coming.restore = nil
		}
		if err := e.prepareTasks(ctx, rec.Spec, j.Migration, j.PostCopy); err != nil {
			return err
		}
	}
	// What CRIU rebuilds does not run before the decision, so the journal need not be on disk before CRIU starts; it is
	// before the decision is asked for.
	j.Stage, j.Attempts = owner.Restoring, j.Attempts+1
	e.place(j.Pod).setAttempts(j.Attempts)
	journaled := make(chan error, 1)
	go func() { journaled <- e.journals.save(j) }()
	defer func() { err = errors.Join(err, <-journaled) }()
	verified := make(chan error, 1)
	go func() { verified <- e.verifyImages(ctx, j.Migration) }()
	if err := e.loadNetwork(ctx, j); err != nil {
		return err
	}
	if j.PostCopy {
		if err := e.awaitDaemons(ctx, j, rec.Spec); err != nil {
			return err
		}
	}
	watch, err := e.watchHooks(j.Migration, rec.Spec)
	if err != nil {
		return err
	}
	defer watch.Close()
	if err := <-verified; err != nil {
		e.Log.Error("restore not begun", "pod", j.Pod, "migration", j.Migration, "error", err)
		e.place(j.Pod).giveUp(err.Error())
		return nil
	}
	if err := e.translate(j, rec.Spec); err != nil {
		e.Log.Error("restore not begun", "pod", j.Pod, "migration", j.Migration, "error", err)
		e.place(j.Pod).giveUp(err.Error())
		return nil
	}
	restores, err := e.goOn(ctx, j, rec.Spec)
	if err != nil {
		return err
	}
	for !e.hooks(j, rec).held() || j.PostCopy && !e.keptSafe(j.Migration, rec.Spec) {
		select {
		case <-watch.Events:
			continue
		case <-time.After(50 * time.Millisecond):
			if err := e.endOrphans(ctx, j, rec.Spec); err != nil {
				return err
			}
			if _, lost := e.pagesHere(j.Migration, rec); !j.PostCopy || !lost {
				continue
			}
		case <-restores.failed:
		}
		return e.failedRestore(ctx, j, rec.Spec, restores, nil)
	}
	// The tasks have their sockets, and nobody reaches them yet.
	if err := e.Pods.SteerAs(ctx, rec); err != nil {
		return e.failedRestore(ctx, j, rec.Spec, restores, err)
	}
	e.At(ctx, "destination-after-restore")
	return nil
}

// failedRestore ends, before it could run, what CRIU or a container that was restored has left, and gives the restore up. Without a
// cause it is CRIU's own.
func (e *Engine) failedRestore(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec, restores *early, cause error) error {
	e.abandon(ctx, j, spec)
	if err := e.awaitReturned(j.Pod, restores); cause == nil {
		cause = err
	}
	e.place(j.Pod).giveUp(fmt.Sprintf("the restore failed: %v", cause))
	e.Log.Error("restore failed", "pod", j.Pod, "migration", j.Migration, "error", cause)
	return e.Pods.Kill(ctx, j.Pod)
}

// endOrphans ends what is left of a restore whose CRIU was killed, so that runc gives up.
func (e *Engine) endOrphans(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) error {
	for _, c := range spec.Containers {
		h := e.hook(j.Migration, c.Name)
		if h.waiting() || h.resumed() {
			continue
		}
		orphaned, err := e.Pods.Orphaned(j.Pod, c.Name)
		if err != nil {
			return err
		}
		if orphaned && !h.waiting() && !h.resumed() { // it may have ended well since
			return e.Pods.KillTasks(ctx, j.Pod)
		}
	}
	return nil
}

// goOn lets the restores that wait go on, or starts them where none does.
func (e *Engine) goOn(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) (*early, error) {
	images := func(container string) string { return e.restoreFrom(j.Migration, container).Images }
	coming := e.place(j.Pod).arrival()
	if coming != nil && coming.restore.waits(spec) {
		return coming.restore, coming.restore.feed(images)
	}
	for _, c := range spec.Containers {
		if err := settleImages(images(c.Name)); err != nil {
			return nil, err
		}
	}
	r := e.runRestores(ctx, spec, j.Migration)
	if coming != nil {
		coming.restore = r
	}
	return r, nil
}

// abandon makes every CRIU that waits give up.
func (e *Engine) abandon(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) {
	for _, c := range spec.Containers {
		if err := e.hook(j.Migration, c.Name).answer(ctx, false); err != nil {
			e.Log.Error("answer CRIU", "pod", j.Pod, "container", c.Name, "error", err)
		}
	}
	if err := e.Pods.KillTasks(ctx, j.Pod); err != nil {
		e.Log.Error("end what CRIU left", "pod", j.Pod, "error", err)
	}
}

func (e *Engine) watchHooks(migration string, spec *drydockv1.PodSpec) (*fsnotify.Watcher, error) {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch CRIU's hooks: %w", err)
	}
	for _, c := range spec.Containers {
		if err := watch.Add(e.hook(migration, c.Name).dir); err != nil {
			return nil, errors.Join(fmt.Errorf("watch CRIU's hooks: %w", err), watch.Close())
		}
	}
	return watch, nil
}

func (e *Engine) loadNetwork(ctx context.Context, j owner.Journal) error {
	data, err := os.ReadFile(filepath.Join(e.dir(j.Migration), completeMark))
	if err != nil {
		return err
	}
	var state network.DynamicState
	if err := json.Unmarshal(data, &state); err != nil {
		return err
	}
	net, err := e.Pods.Network(ctx, j.Pod)
	if err != nil {
		return err
	}
	return net.LoadDynamic(ctx, state)
}
