package pods

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

// State is what the kernel shows of a pod on this host.
type State struct {
	// Processes in the pod's cgroups, whatever their state; CRIU's own count while it restores there.
	Processes int
	// Frozen tells that every container's cgroup is.
	Frozen bool
	// Sealed tells that the pod is frozen above the containers' own cgroups; see FreezeAll.
	Sealed bool
	// Plugged tells that the pod is connected to the host's bridge.
	Plugged bool
	// Busy tells that a checkpoint or a restore is at work on a container of the pod.
	Busy bool
}

// State reads a pod's state from the kernel; ErrNotFound where the pod is not here.
func (r *Runtime) State(ctx context.Context, pod string) (State, error) {
	rec, err := r.Record(pod)
	if err != nil {
		return State{}, err
	}
	return r.StateOf(ctx, rec)
}

// StateOf is State for a caller who has read the pod's record already.
func (r *Runtime) StateOf(ctx context.Context, rec *Record) (State, error) {
	var state State
	pod := rec.Spec.Name
	processes, err := r.processes(rec)
	if err != nil {
		return state, err
	}
	for _, pids := range processes {
		state.Processes += len(pids)
	}
	if len(processes) > 0 {
		if state.Frozen, err = r.frozen(rec); err != nil {
			return state, err
		}
	}
	if whole := cgroupAt(r.podCgroup(pod)); whole.exists() {
		if state.Sealed, err = whole.frozen(); err != nil {
			return state, err
		}
	}
	if net, err := r.Network(ctx, pod); err == nil {
		if state.Plugged, err = net.Plugged(); err != nil {
			return state, err
		}
	}
	runcs, err := checkpointing(containerIDs(rec.Spec))
	state.Busy = len(runcs) > 0
	return state, err
}

// Restoring tells whether a restore is at work on a container: runc runs, and the CRIU that it started does. Before runc has
// started CRIU nothing of the container is there. A CRIU that is gone while runc waits has been killed: what it had made by
// then keeps runc's socket open, and runc would wait for ever.
func (r *Runtime) Restoring(pod, container string) (bool, error) {
	runcs, err := checkpointing([]string{containerID(pod, container)})
	if err != nil || len(runcs) == 0 {
		return false, err
	}
	orphaned, err := r.Orphaned(pod, container)
	return !orphaned, err
}

// Orphaned tells whether runc waits for a CRIU that is gone, with what that has left of the container.
func (r *Runtime) Orphaned(pod, container string) (bool, error) {
	pids, err := cgroupAt(r.containerCgroup(pod, container)).pids()
	if err != nil || len(pids) == 0 {
		return false, err
	}
	runcs, err := checkpointing([]string{containerID(pod, container)})
	if err != nil {
		return false, err
	}
	for _, pid := range runcs {
		for _, child := range Children(pid) {
			if isCRIU(pid, child) {
				return false, nil
			}
		}
	}
	return len(runcs) > 0, nil
}

// isCRIU tells CRIU itself from the tasks that it makes, which are runc's children too, in a PID namespace of their own.
func isCRIU(runc, child int) bool {
	exe, err := os.Readlink(procPath(child, "exe"))
	if err != nil || filepath.Base(exe) != "criu" {
		return false
	}
	here, err := os.Readlink(procPath(runc, "ns", "pid"))
	if err != nil {
		return false
	}
	there, err := os.Readlink(procPath(child, "ns", "pid"))
	return err == nil && here == there
}

func containerIDs(pod *drydockv1.PodSpec) []string {
	var ids []string
	for _, c := range pod.Containers {
		ids = append(ids, containerID(pod.Name, c.Name))
	}
	return ids
}

// Dumping tells whether a checkpoint is at work on a container, or serves its pages.
func (r *Runtime) Dumping(pod, container string) (bool, error) {
	runcs, err := atWork([]string{containerID(pod, container)}, "checkpoint")
	return len(runcs) > 0, err
}

// EndCheckpoint ends a CRIU that serves the pages of a pod in post-copy. The pod is sealed first, so that its tasks do not run
// when CRIU lets them go. A CRIU that still dumps must not be ended, unless the tasks are to be killed: it would leave its
// parasite in them.
func (r *Runtime) EndCheckpoint(ctx context.Context, pod string) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	for {
		runcs, err := atWork(containerIDs(rec.Spec), "checkpoint")
		if err != nil || len(runcs) == 0 {
			return err
		}
		if err := r.FreezeAll(ctx, pod); err != nil {
			return err
		}
		for _, pid := range runcs {
			for _, child := range Children(pid) {
				_ = syscall.Kill(child, syscall.SIGKILL)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// Children of a process, of all of its threads.
func Children(pid int) []int {
	paths, _ := filepath.Glob(procPath(pid, "task", "*", "children"))
	var pids []int
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// checkpointing lists each `runc checkpoint` or `runc restore` of one of the containers.
func checkpointing(ids []string) ([]int, error) { return atWork(ids, "checkpoint", "restore") }

// atWork lists each runc with one of the verbs on one of the containers. runc's checkpoint and restore name the container
// last, and live as long as the CRIU that they started.
func atWork(ids []string, verbs ...string) ([]int, error) {
	var found []int
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			continue // it ended meanwhile
		}
		args := bytes.Split(bytes.TrimSuffix(data, []byte{0}), []byte{0})
		if filepath.Base(string(args[0])) != "runc" || !slices.Contains(ids, string(args[len(args)-1])) {
			continue
		}
		for _, arg := range args {
			if slices.Contains(verbs, string(arg)) {
				if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
					found = append(found, pid)
				}
			}
		}
	}
	return found, nil
}
