package pods

import (
	"context"
	"errors"

	drydockv1 "drydock/api/drydock/v1"

	containerd "github.com/containerd/containerd/v2/client"
)

// Status is how a pod on this host looks to an operator. Health and the owner's phase are added by those who know them.
func (r *Runtime) Status(ctx context.Context, pod string) (*drydockv1.Pod, error) {
	rec, err := r.Record(pod)
	if err != nil {
		return nil, err
	}
	status := &drydockv1.Pod{Spec: rec.Spec, Epoch: rec.Epoch, Phase: drydockv1.PodPhase_POD_PHASE_RUNNING}
	if rec.Role == Incoming {
		status.Phase, status.Migration = drydockv1.PodPhase_POD_PHASE_MOVING, rec.Migration
	}
	if rec.Ended {
		status.Phase = drydockv1.PodPhase_POD_PHASE_ENDED
	}
	for _, c := range rec.Spec.Containers {
		one, err := r.containerStatus(ctx, pod, c.Name)
		if err != nil {
			return nil, err
		}
		one.Restarts = rec.Restarts[c.Name]
		status.Containers = append(status.Containers, one)
	}
	return status, nil
}

func (r *Runtime) containerStatus(ctx context.Context, pod, container string) (*drydockv1.ContainerStatus, error) {
	status := &drydockv1.ContainerStatus{Name: container, State: "absent"}
	c, task, err := r.load(ctx, pod, container)
	if errors.Is(err, errNoTask) {
		return status, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := task.Status(r.context(ctx))
	if err != nil {
		return nil, err
	}
	status.State, status.ExitCode, status.Pid = string(now.Status), now.ExitStatus, task.Pid()
	if now.Status == containerd.Running || now.Status == containerd.Paused {
		status.Started = started(r.context(ctx), c)
	}
	if memory, err := containerMemory(r.containerCgroup(pod, container)); err == nil {
		status.MemoryBytes = memory
	}
	return status, nil
}

// ContainerState is created, running, paused, stopped or absent.
func (r *Runtime) ContainerState(ctx context.Context, pod, container string) (string, error) {
	status, err := r.containerStatus(ctx, pod, container)
	return status.GetState(), err
}

// Wait returns the exit status of a container's task, once it ends; false where it has none.
func (r *Runtime) Wait(ctx context.Context, pod, container string) (<-chan containerd.ExitStatus, bool, error) {
	task, err := r.task(ctx, pod, container)
	if errors.Is(err, errNoTask) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	exited, err := task.Wait(r.context(ctx))
	return exited, true, err
}
