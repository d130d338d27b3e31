package pods

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
)

// State is what the kernel shows of a pod on this host.
type State struct {
	// Processes in the pod's cgroups, whatever their state; CRIU's own count while it restores there.
	Processes int
	// Frozen tells that every container's cgroup is.
	Frozen bool
	// Plugged tells that the pod is connected to the host's bridge.
	Plugged bool
	// Busy tells that a checkpoint or a restore is at work on a container of the pod.
	Busy bool
}

// State reads a pod's state from the kernel; ErrNotFound where the pod is not here.
func (r *Runtime) State(ctx context.Context, pod string) (State, error) {
	var state State
	processes, err := r.Processes(pod)
	if err != nil {
		return state, err
	}
	for _, pids := range processes {
		state.Processes += len(pids)
	}
	if len(processes) > 0 {
		if state.Frozen, err = r.Frozen(pod); err != nil {
			return state, err
		}
	}
	if net, err := r.Network(ctx, pod); err == nil {
		if state.Plugged, err = net.Plugged(); err != nil {
			return state, err
		}
	}
	rec, err := r.Record(pod)
	if err != nil {
		return state, err
	}
	var ids []string
	for _, c := range rec.Spec.Containers {
		ids = append(ids, containerID(pod, c.Name))
	}
	state.Busy, err = checkpointing(ids)
	return state, err
}

// checkpointing looks for a `runc checkpoint` or `runc restore` of one of the containers. Both name the container last, and
// both live as long as the CRIU that they started.
func checkpointing(ids []string) (bool, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return false, err
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
			if string(arg) == "checkpoint" || string(arg) == "restore" {
				return true, nil
			}
		}
	}
	return false, nil
}
