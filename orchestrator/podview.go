package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

const (
	phasePending = drydockv1.PodPhase_POD_PHASE_PENDING
	phaseRunning = drydockv1.PodPhase_POD_PHASE_RUNNING
	phaseMoving  = drydockv1.PodPhase_POD_PHASE_MOVING
	phaseStopped = drydockv1.PodPhase_POD_PHASE_STOPPED
	phaseUnknown = drydockv1.PodPhase_POD_PHASE_UNKNOWN
	phaseLost    = drydockv1.PodPhase_POD_PHASE_LOST
	phaseEnded   = drydockv1.PodPhase_POD_PHASE_ENDED
)

// listPods is all pods, or those of one host.
func (c *Controller) listPods(ctx context.Context, on string) ([]*drydockv1.Pod, error) {
	if on != "" {
		if _, err := c.host(ctx, on); err != nil {
			return nil, err
		}
	}
	items, err := store.List[drydockv1.PodRecord](ctx, c.store, keyPods)
	if err != nil {
		return nil, err
	}
	owners, err := c.ownerRecords(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := c.hosts(ctx)
	if err != nil {
		return nil, err
	}
	var pods []*drydockv1.Pod
	for _, item := range items {
		name := strings.TrimPrefix(item.Key, keyPods)
		pod, err := c.podWire(ctx, item.Value, owners[name], hosts)
		if err != nil {
			return nil, err
		}
		if on == "" || pod.GetHost() == on {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

func (c *Controller) getPod(ctx context.Context, name string) (*drydockv1.Pod, error) {
	item, err := c.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	record, err := c.ownerOf(ctx, name)
	if err != nil {
		return nil, err
	}
	hosts, err := c.hosts(ctx)
	if err != nil {
		return nil, err
	}
	return c.podWire(ctx, item.Value, record, hosts)
}

// podWire is a pod as operators see it.
func (c *Controller) podWire(ctx context.Context, record *drydockv1.PodRecord, own owner.Record, hosts map[string]host) (*drydockv1.Pod, error) {
	name := record.GetSpec().GetName()
	spec := record.GetSpec()
	if spec.GetShim() != nil {
		spec = proto.CloneOf(spec)
		spec.Shim.Record, spec.Shim.Files = nil, nil
	}
	pod := &drydockv1.Pod{
		Spec: spec, Host: hostOf(own), Epoch: own.Epoch, Created: record.GetCreated(), Migration: record.GetMigration(),
	}
	if pod.GetHost() == "" {
		pod.Host = record.GetHost()
	}
	h := hosts[pod.GetHost()]
	reported := reportedPod(h, name)
	pod.Containers = reported.GetContainers()
	pod.Phase, pod.Message = phaseOf(record, own, h, reported)
	if trouble := c.troubles.of(name); trouble != "" && pod.GetMessage() == "" {
		pod.Message = trouble
	}
	if pod.GetMigration() == "" {
		return pod, nil
	}
	migration, err := store.Get[drydockv1.MigrationRecord](ctx, c.store, migrationKey(pod.GetMigration()))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	pod.Destination = migration.Value.GetSpec().GetTo()
	return pod, nil
}

func reportedPod(h host, name string) *drydockv1.Pod {
	for _, pod := range h.report.GetPods() {
		if pod.GetSpec().GetName() == name {
			return pod
		}
	}
	return nil
}

func phaseOf(record *drydockv1.PodRecord, own owner.Record, h host, reported *drydockv1.Pod) (drydockv1.PodPhase, string) {
	if own.Owned() && !h.answers() {
		return phaseUnknown, fmt.Sprintf("host %s is %s: it is started elsewhere only once that host has booted or is confirmed dead", own.Owner.Host, h.state)
	}
	if own.Owned() && h.record.GetBootId() != own.Owner.BootID {
		return phaseUnknown, "host " + own.Owner.Host + " has booted"
	}
	if reported.GetPhase() == phaseUnknown {
		return phaseUnknown, "host " + own.Owner.Host + ": " + reported.GetMessage()
	}
	message := ""
	if record.GetDesired() == wantRemoved {
		message = "is being removed"
	}
	switch own.State {
	case owner.Running, owner.Moving:
		switch {
		case record.GetMigration() != "" || own.State == owner.Moving || !own.Settled && own.Outcome != owner.Undecided:
			return phaseMoving, message
		case !own.Settled:
			return phasePending, message
		case reported.GetPhase() == phaseEnded:
			return phaseEnded, reported.GetMessage()
		}
		return phaseRunning, cmp.Or(message, reported.GetMessage())
	case owner.Stopping:
		return phaseRunning, cmp.Or(message, "is being stopped")
	case owner.Stopped:
		return phaseStopped, message
	case owner.Lost:
		if reported.GetPhase() == phaseEnded {
			return phaseEnded, cmp.Or(reported.GetMessage(), own.Reason)
		}
		return phaseLost, own.Reason
	}
	return phasePending, message
}
