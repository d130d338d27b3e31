package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/upgrade"
)

// shimService is ShimService, as the leader answers it.
type shimService struct{ c *Controller }

func (s shimService) SetPodShim(ctx context.Context, request *connect.Request[drydockv1.SetPodShimRequest]) (*connect.Response[drydockv1.SetPodShimResponse], error) {
	m := request.Msg
	state, err := led(ctx, s.c, func(ctx context.Context, r *reign) (*drydockv1.ShimState, error) {
		return s.c.setPodShim(ctx, r, m.GetPod(), nil, m.GetShim(), m.GetRenew())
	})
	return respond(&drydockv1.SetPodShimResponse{State: state}, err)
}

func (s shimService) GetPodShim(ctx context.Context, request *connect.Request[drydockv1.GetPodShimRequest]) (*connect.Response[drydockv1.GetPodShimResponse], error) {
	agent, name, err := s.c.agentRunning(ctx, "look at the shim of pod "+request.Msg.GetPod(), request.Msg.GetPod())
	if err != nil {
		return nil, err
	}
	response, err := agent.GetPodShim(ctx, connect.NewRequest(request.Msg))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return connect.NewResponse(response.Msg), nil
}

func (s shimService) ListPodShims(ctx context.Context, _ *connect.Request[drydockv1.ListPodShimsRequest]) (*connect.Response[drydockv1.ListPodShimsResponse], error) {
	shims, err := s.c.listPodShims(ctx)
	return respond(&drydockv1.ListPodShimsResponse{Shims: shims}, err)
}

// traceLongest bounds how long a call is waited for.
const traceLongest = 10 * 60

func (s shimService) TracePodShim(ctx context.Context, request *connect.Request[drydockv1.TracePodShimRequest]) (*connect.Response[drydockv1.TracePodShimResponse], error) {
	m := request.Msg
	if wait := m.GetWait(); !wait.IsValid() || wait.AsDuration() <= 0 || wait.GetSeconds() > traceLongest {
		return nil, invalid("trace the shim of pod %s: wait more than 0 and at most %d seconds", m.GetPod(), traceLongest)
	}
	agent, name, err := s.c.agentRunning(ctx, "trace the shim of pod "+m.GetPod(), m.GetPod())
	if err != nil {
		return nil, err
	}
	response, err := agent.TracePodShim(ctx, connect.NewRequest(m))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return connect.NewResponse(response.Msg), nil
}

// maxShim keeps a pod's record within what the store takes at once.
const maxShim = 1 << 20

// setPodShim changes what a pod's record wants of its shim, and has its host do it. What the host refuses is wanted no more. Where was is
// given and the shim is not of that generation, or there is none for 0, it is upgrade.ErrShimChanged.
func (c *Controller) setPodShim(ctx context.Context, r *reign, name string, was *uint64, shim *drydockv1.ShimSpec, renew bool) (*drydockv1.ShimState, error) {
	what := "set the shim of pod " + name
	defer c.locks.lock(name)()
	if size := proto.Size(shim); size > maxShim {
		return nil, refuse(what, because(fmt.Sprintf("its record and the files beside it are %d bytes, more than %d", size, maxShim), "make them smaller"))
	}
	var before *drydockv1.ShimSpec
	item, err := c.want(ctx, r, name, func(record *drydockv1.PodRecord) error {
		before = record.GetSpec().GetShim()
		if why := whyShimStays(record); why != nil {
			return refuse(what, why)
		}
		if was != nil && *was != before.GetGeneration() {
			return fmt.Errorf("%s: %w", what, upgrade.ErrShimChanged)
		}
		record.Spec.Shim = nextShim(before, shim, record.GetShimGeneration())
		if shim == nil {
			record.ShimGeneration = max(record.GetShimGeneration(), before.GetGeneration())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	state, err := c.applyShim(ctx, item.Value, renew)
	if err == nil {
		return state, nil
	}
	if code := connect.CodeOf(err); code == connect.CodeFailedPrecondition || code == connect.CodeInvalidArgument || code == connect.CodeInternal {
		_, undo := c.want(ctx, r, name, func(record *drydockv1.PodRecord) error {
			if proto.Equal(record.GetSpec().GetShim(), item.Value.GetSpec().GetShim()) {
				record.Spec.Shim = before
			}
			return nil
		})
		if undo != nil {
			c.log.Warn("a shim that was refused is wanted still", "pod", name, "error", undo)
		}
	}
	return nil, fmt.Errorf("%s: %w", what, err)
}

// whyShimStays is why a pod's shim cannot be changed now, or nil.
func whyShimStays(record *drydockv1.PodRecord) *drydockv1.Refusal {
	switch {
	case record.GetMigration() != "":
		return movingReason(record)
	case record.GetDesired() == wantRemoved:
		return because("it is being removed", "choose another pod")
	}
	return upgradingReason(record)
}

// nextShim is what is wanted, with a generation of its own where that is something else than before; gone is that of the last one that
// was taken away, which a host that has not heard of it may still have.
func nextShim(before, wanted *drydockv1.ShimSpec, gone uint64) *drydockv1.ShimSpec {
	if wanted == nil {
		return nil
	}
	next := proto.CloneOf(wanted)
	next.Generation = max(before.GetGeneration(), gone)
	if !proto.Equal(before, next) {
		next.Generation++
	}
	return next
}

// applyShim has a pod's host make its shim as the record wants it. A pod that does not run gets it when it starts.
func (c *Controller) applyShim(ctx context.Context, record *drydockv1.PodRecord, renew bool) (*drydockv1.ShimState, error) {
	name, shim := record.GetSpec().GetName(), record.GetSpec().GetShim()
	own, err := c.ownerOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if own.State != owner.Running {
		return &drydockv1.ShimState{Pod: name, State: "none", Service: shim.GetService(), Generation: shim.GetGeneration()}, nil
	}
	agent, err := c.answeringAgent(ctx, "set the shim of pod "+name, own.Owner.Host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timings.CreateTimeout)
	defer cancel()
	response, err := agent.SetPodShim(ctx, connect.NewRequest(&drydockv1.SetPodShimRequest{Pod: name, Shim: shim, Renew: renew, Epoch: own.Epoch}))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", own.Owner.Host, err)
	}
	return response.Msg.GetState(), nil
}

// shimAsWanted tells whether the shim that a pod's host has reported is the one on record. Where the pod moves, or nothing is reported,
// nothing can be done.
func shimAsWanted(record *drydockv1.PodRecord, own owner.Record, h host) bool {
	reported := reportedPod(h, record.GetSpec().GetName()).GetSpec()
	if record.GetDesired() != wantRunning || record.GetMigration() != "" || !own.Settled || !h.answers() || reported == nil || reported.GetMac() == "" {
		return true
	}
	has, wants := reported.GetShim(), record.GetSpec().GetShim()
	return (has == nil) == (wants == nil) && has.GetGeneration() == wants.GetGeneration()
}

// tendShim has a host do what it was not told, because it did not answer.
func (p pass) tendShim(ctx context.Context) error {
	h, err := p.host(ctx, p.own.Owner.Host)
	if err != nil || shimAsWanted(p.record, p.own, h) {
		return err
	}
	_, err = p.applyShim(ctx, p.record, false)
	return err
}

// listPodShims asks the hosts of all pods that have a shim, or had one whose connections go on. One that does not answer is
// listed with the reason.
func (c *Controller) listPodShims(ctx context.Context) ([]*drydockv1.ShimState, error) {
	pods, err := c.listPods(ctx, "")
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(pod *drydockv1.Pod) bool { return pod.GetSpec().GetShim() == nil && !hasShim(pod) })
	states := make([]*drydockv1.ShimState, len(pods))
	var group sync.WaitGroup
	for i, pod := range pods {
		group.Go(func() { states[i] = c.shimOf(ctx, pod) })
	}
	group.Wait()
	return states, ctx.Err()
}

// hasShim tells whether a shim is among the containers that a pod's host reports.
func hasShim(pod *drydockv1.Pod) bool {
	return slices.ContainsFunc(pod.GetContainers(), func(c *drydockv1.ContainerStatus) bool { return strings.HasPrefix(c.GetName(), reserved) })
}

func (c *Controller) shimOf(ctx context.Context, pod *drydockv1.Pod) *drydockv1.ShimState {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timings.CallTimeout)
	defer cancel()
	name, shim := pod.GetSpec().GetName(), pod.GetSpec().GetShim()
	unknown := &drydockv1.ShimState{Pod: name, Host: pod.GetHost(), State: "unknown", Service: shim.GetService(), Generation: shim.GetGeneration()}
	agent, _, err := c.agentRunning(ctx, "look at the shim of pod "+name, name)
	if err != nil {
		unknown.Problem = err.Error()
		return unknown
	}
	response, err := agent.GetPodShim(ctx, connect.NewRequest(&drydockv1.GetPodShimRequest{Pod: name}))
	if err != nil {
		unknown.Problem = err.Error()
		return unknown
	}
	return response.Msg.GetState()
}
