package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/refusal"
)

// stopFor stops a pod until its host is patched. That it will be started again is journalled first.
func (x *execution) stopFor(ctx context.Context, h *drydockv1.RolloutHost, pod string) error {
	_, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		if !slices.Contains(h.GetStoppedPods(), pod) {
			h.StoppedPods = append(h.StoppedPods, pod)
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.show(h.GetHost(), "stops "+pod, 0)
	err = x.recorded(ctx, "pod stop", "pod "+pod, "until host "+h.GetHost()+" is patched", func() error {
		return x.StopPod(ctx, pod, durationpb.New(x.pool.Pods.Grace))
	})
	if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
		return x.failed("stop pod "+pod, err)
	}
	return nil
}

// restartOn stops a pod and starts it again on another host. A pod with files of its own is stopped on its host instead, and
// started there: they do not move with it.
func (x *execution) restartOn(ctx context.Context, m *drydockv1.PlanMove) error {
	record, err := x.Pod(ctx, m.GetPod())
	if err != nil {
		return unlessRemoved(err)
	}
	for _, volume := range record.GetSpec().GetVolumes() {
		if volume.GetLocal() != nil {
			return x.stopFor(ctx, &drydockv1.RolloutHost{Host: m.GetFrom()}, m.GetPod())
		}
	}
	if err := x.stopFor(ctx, &drydockv1.RolloutHost{Host: m.GetFrom()}, m.GetPod()); err != nil {
		return err
	}
	if err := x.startAt(ctx, m.GetPod(), m.GetTo()); err != nil {
		return x.failed("start pod "+m.GetPod()+" on "+m.GetTo(), err)
	}
	return x.startedAgain(ctx, m.GetFrom(), m.GetPod())
}

func (x *execution) startAt(ctx context.Context, pod, to string) error {
	target, err := x.Host(ctx, to)
	if err != nil {
		return err
	}
	return x.recorded(ctx, "pod start", "pod "+pod, "on "+to+", since it cannot be moved", func() error {
		return x.StartPodOn(ctx, pod, owner.Place{Host: to, BootID: target.Record.GetBootId()})
	})
}

// startStopped starts the pods that were stopped for a host, where it answers.
func (x *execution) startStopped(ctx context.Context, h *drydockv1.RolloutHost) error {
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(hosts, func(other *drydockv1.RolloutHost) bool { return other.GetHost() == h.GetHost() })
	if i < 0 {
		return nil
	}
	var failed error
	for _, pod := range hosts[i].GetStoppedPods() {
		err := x.startWhereItWas(ctx, h.GetHost(), pod)
		if err == nil || connect.CodeOf(err) == connect.CodeNotFound {
			err = x.startedAgain(ctx, h.GetHost(), pod)
		} else {
			err = fmt.Errorf("pod %s: %w", pod, err)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// startWhereItWas starts a stopped pod. Where its host is dead that would be elsewhere, without what it wrote: its own policy says
// whether it may.
func (x *execution) startWhereItWas(ctx context.Context, name, pod string) error {
	h, err := x.Host(ctx, name)
	if err != nil {
		return err
	}
	record, err := x.Pod(ctx, pod)
	if err != nil {
		return err
	}
	if h.Dead && record.GetSpec().GetOnHostLost() == drydockv1.OnHostLost_ON_HOST_LOST_WAIT {
		return refusal.New("start pod "+pod, refusal.Because("host "+name+" is gone, and the pod is to wait for it", "start it elsewhere with `drydock pod start "+pod+"`"))
	}
	return x.recorded(ctx, "pod start", "pod "+pod, "it was stopped for host "+name, func() error {
		return x.StartPod(ctx, pod)
	})
}

func (x *execution) startedAgain(ctx context.Context, host, pod string) error {
	_, err := x.changeHost(ctx, host, func(h *drydockv1.RolloutHost) error {
		h.StoppedPods = slices.DeleteFunc(h.StoppedPods, func(p string) bool { return p == pod })
		return nil
	})
	return err
}
