package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Restore says where a container's state comes from.
type Restore struct {
	Images string
	Work   string
	// Script is run by CRIU at its stages; see migrate.
	Script string
	// Lazy restores before the memory is there; a lazy-pages daemon must listen in Work.
	Lazy bool
}

// RestoreOptions are CRIU's for a restore, but for its script.
const RestoreOptions = `tcp-established
network-lock skip
file-locks
link-remap
manage-cgroups=ignore
`

// PrepareRestore makes a container's task ready to be restored, so that RestoreTask has as little to do as possible. Images
// may still be empty.
func (r *Runtime) PrepareRestore(ctx context.Context, pod, container string, from Restore) error {
	ctx = r.context(ctx)
	options := RestoreOptions + "action-script " + from.Script + "\n"
	if from.Lazy {
		options += "lazy-pages\n"
	}
	if err := writeCRIUConfig(pod, container, options); err != nil {
		return err
	}
	c, err := r.client.LoadContainer(ctx, containerID(pod, container))
	if err != nil {
		return fmt.Errorf("container %s of pod %s: %w", container, pod, err)
	}
	log := r.logFile(pod, container)
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		return err
	}
	_, err = c.NewTask(ctx, cio.LogFile(log), containerd.WithRestoreImagePath(from.Images), containerd.WithRestoreWorkPath(from.Work))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("prepare the task of container %s of pod %s: %w", container, pod, err)
	}
	return nil
}

// RestoreTask restores a prepared container. It returns when its processes run, or when CRIU has given up.
func (r *Runtime) RestoreTask(ctx context.Context, pod, container string, from Restore) error {
	ctx = r.context(context.WithoutCancel(ctx))
	task, err := r.task(ctx, pod, container)
	if err != nil {
		return err
	}
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("restore container %s of pod %s: %w", container, pod, CRIUSaid(filepath.Join(from.Work, "restore.log"), err))
	}
	return nil
}

// Kill ends every process of the pod without letting it run another instruction, and deletes its tasks. Containers,
// files and network stay. Safe to call again.
func (r *Runtime) Kill(ctx context.Context, pod string) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	// A CRIU that serves this pod's pages would wait for ever for tasks that are frozen.
	if err := r.EndCheckpoint(ctx, pod); err != nil {
		return err
	}
	if err := errors.Join(r.KillTasks(ctx, pod), r.awaitRestores(ctx, rec)); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range rec.Spec.Containers {
		group.Go(func() error { return r.deleteTask(ctx, pod, c.Name) })
	}
	return group.Wait()
}

// EndRestore ends what still restores a pod's containers: CRIU, or a runc that has none any more. Call it only when CRIU has let
// the tasks go, or when they are to be killed.
func (r *Runtime) EndRestore(pod string) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	runcs, err := atWork(containerIDs(rec.Spec), "restore")
	if err != nil {
		return err
	}
	for _, runc := range runcs {
		last := runc
		for _, child := range Children(runc) {
			if isCRIU(runc, child) {
				last = child
			}
		}
		if err := syscall.Kill(last, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the restore of a container of pod %s: %w", pod, err)
		}
	}
	return nil
}

// restoreEnds is how long runc may take to end when CRIU and every task that it was to restore were killed. It needs a moment.
const restoreEnds = 30 * time.Second

// awaitRestores waits for the end of every runc that restores a container of a pod whose tasks were killed: containerd's shim can
// delete none of them before.
func (r *Runtime) awaitRestores(ctx context.Context, rec *Record) error {
	for late := time.Now().Add(restoreEnds); ; {
		runcs, err := atWork(containerIDs(rec.Spec), "restore")
		if err != nil || len(runcs) == 0 {
			return err
		}
		if time.Now().After(late) {
			if err := r.EndRestore(rec.Spec.Name); err != nil {
				return err
			}
			late = time.Now().Add(restoreEnds) // a runc whose CRIU was ended cleans up
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// KillTasks ends every process of the pod, as Kill does, but leaves containerd's tasks to whoever waits for them.
func (r *Runtime) KillTasks(ctx context.Context, pod string) error {
	return cgroupAt(r.podCgroup(pod)).killAll(ctx)
}

func (r *Runtime) deleteTask(ctx context.Context, pod, container string) error {
	if err := r.unmountRestoreRoot(pod, container); err != nil {
		return err
	}
	task, err := r.task(ctx, pod, container)
	if errors.Is(err, errNoTask) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = task.Delete(r.context(ctx), containerd.WithProcessKill)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete the task of container %s of pod %s: %w", container, pod, err)
	}
	return nil
}

// unmountRestoreRoot takes away the bind mount of the container's root that a killed `runc restore` leaves in runc's state
// directory. It must be gone before anything deletes the container: runc removes that directory recursively, through the
// mount.
func (r *Runtime) unmountRestoreRoot(pod, container string) error {
	dir := filepath.Join(r.runcRoot, containerID(pod, container), "criu-root")
	for {
		err := unix.Unmount(dir, unix.MNT_DETACH)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}

// removeRestoreRoot takes away what is left of runc's state directory where containerd was killed during a restore: nobody runs
// `runc delete` for it any more. A directory with anything else in it stays.
func (r *Runtime) removeRestoreRoot(pod, container string) error {
	if err := r.unmountRestoreRoot(pod, container); err != nil {
		return err
	}
	state := filepath.Join(r.runcRoot, containerID(pod, container))
	for _, dir := range []string{filepath.Join(state, "criu-root"), state} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return fmt.Errorf("remove what a restore left: %w", err)
		}
	}
	return nil
}

// CleanRestore takes away what a runc that was ended in a restore has left of it, also beside a pod that runs. Call it when no runc
// restores the pod any more.
func (r *Runtime) CleanRestore(pod string) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	for _, c := range rec.Spec.Containers {
		if err := r.removeRestoreRoot(pod, c.Name); err != nil {
			return err
		}
	}
	return nil
}

var errNoTask = errors.New("the container has no task")

func (r *Runtime) task(ctx context.Context, pod, container string) (containerd.Task, error) {
	_, task, err := r.load(ctx, pod, container)
	return task, err
}

// load finds a container that has a task, with the task.
func (r *Runtime) load(ctx context.Context, pod, container string) (containerd.Container, containerd.Task, error) {
	ctx = r.context(ctx)
	c, err := r.client.LoadContainer(ctx, containerID(pod, container))
	if errdefs.IsNotFound(err) {
		return nil, nil, fmt.Errorf("container %s of pod %s: %w", container, pod, errNoTask)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("container %s of pod %s: %w", container, pod, err)
	}
	task, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return nil, nil, fmt.Errorf("container %s of pod %s: %w", container, pod, errNoTask)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("task of container %s of pod %s: %w", container, pod, err)
	}
	return c, task, nil
}
