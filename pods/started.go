package pods

import (
	"context"
	"fmt"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// startedLabel is when a container's program was started, which a move does not change.
const startedLabel = "drydock/started"

func noteStarted(ctx context.Context, c containerd.Container, at time.Time) error {
	_, err := c.SetLabels(ctx, map[string]string{startedLabel: at.UTC().Format(time.RFC3339Nano)})
	return err
}

// started is when a loaded container was started; nil where that is not known.
func started(ctx context.Context, c containerd.Container) *timestamppb.Timestamp {
	info, err := c.Info(ctx, containerd.WithoutRefreshedMetadata)
	if err != nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, info.Labels[startedLabel])
	if err != nil {
		return nil
	}
	return timestamppb.New(at)
}

// Started is when each container of a pod was started, where that is known.
func (r *Runtime) Started(ctx context.Context, rec *Record) (map[string]*timestamppb.Timestamp, error) {
	all := make(map[string]*timestamppb.Timestamp)
	for _, c := range rec.Spec.Containers {
		status, err := r.containerStatus(ctx, rec.Spec.Name, c.Name)
		if err != nil {
			return nil, err
		}
		if status.Started != nil {
			all[c.Name] = status.Started
		}
	}
	return all, nil
}

// SetStarted notes when containers were started that were made here to be restored.
func (r *Runtime) SetStarted(ctx context.Context, pod string, all map[string]*timestamppb.Timestamp) error {
	ctx = r.context(ctx)
	for container, at := range all {
		c, err := r.client.LoadContainer(ctx, containerID(pod, container))
		if err == nil {
			err = noteStarted(ctx, c, at.AsTime())
		}
		if err != nil {
			return fmt.Errorf("note when container %s of pod %s was started: %w", container, pod, err)
		}
	}
	return nil
}
