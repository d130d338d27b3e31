package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
	"drydock/pods/manifest"
)

func (s *Services) keepShims(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.settleShims(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("shims of services", "error", err)
		}
		sleep(ctx, s.LookEvery)
	}
}

// settleShims gives the pods of all services the shims that they need. It logs why it cannot once, not with every look.
func (s *Services) settleShims(ctx context.Context) error {
	items, err := store.List[drydockv1.ServiceRecord](ctx, s.Store, s.Prefix+"services/")
	if err != nil {
		return err
	}
	var errs []error
	now := make(map[string]string)
	for _, item := range items {
		_, missing, err := s.settle(ctx, item.Value.GetName())
		errs = append(errs, err)
		for pod, why := range missing {
			if now[pod] = why; why != s.shimless[pod] && ctx.Err() == nil {
				s.Log.Warn("the shim of a pod is not as its service needs it", "pod", pod, "reason", why)
			}
		}
	}
	s.shimless = now
	return errors.Join(errs...)
}

// settle gives a service's pods the shims that they need, and takes away those that nobody needs any more; its gateway too. What is
// not as it should be is said by pod. Pods that are being upgraded are left to that.
func (s *Services) settle(ctx context.Context, service string) (f forShims, missing map[string]string, err error) {
	for {
		f, missing, err = s.settleOnce(ctx, service)
		if !errors.Is(err, ErrShimChanged) {
			return f, missing, err
		}
	}
}

// settleOnce reads shims first, and then what they are to be: so of several who do this at a time, none undoes what one did that knew
// more. Where another was faster it is ErrShimChanged.
func (s *Services) settleOnce(ctx context.Context, service string) (f forShims, missing map[string]string, err error) {
	pods, err := s.podsWithShims(ctx)
	if err != nil {
		return f, nil, err
	}
	item, err := s.service(ctx, service)
	if err != nil {
		return f, nil, err
	}
	if f, err = s.forShims(ctx, item.Value); err != nil {
		return f, nil, err
	}
	missing = make(map[string]string)
	for _, u := range usesOf(service, pods) {
		name := u.pod.GetSpec().GetName()
		wanted := f.shimOf(u.pod.GetSpec(), pods)
		if u.client || f.becoming[name] != "" || proto.Equal(u.pod.GetSpec().GetShim(), wanted) {
			continue
		}
		if why := f.tooLarge(); why != nil && wanted != nil {
			missing[name] = why.GetReason()
			continue
		}
		switch u.pod.GetPhase() {
		case drydockv1.PodPhase_POD_PHASE_RUNNING:
			err := s.Controller.SetShim(ctx, name, u.pod.GetSpec().GetShim().GetGeneration(), wanted)
			if errors.Is(err, ErrShimChanged) {
				return f, nil, err
			}
			if err != nil {
				missing[name] = err.Error()
			}
		case drydockv1.PodPhase_POD_PHASE_MOVING:
			missing[name] = "it is moving"
		}
	}
	why, err := s.settleGateway(ctx, f, pods)
	if why != "" {
		missing[f.head.Gateway.Pod] = why
	}
	return f, missing, err
}

// Equip gives a pod that is to be run the shim that it needs from its start. The caller holds the lock "services" until the pod is on
// record.
func (s *Services) Equip(ctx context.Context, spec *drydockv1.PodSpec) error {
	name := spec.GetLabels()[manifest.LabelService]
	if name == "" || spec.GetShim() != nil {
		return nil
	}
	item, err := store.Get[drydockv1.ServiceRecord](ctx, s.Store, s.serviceKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil // it is not admitted
	}
	if err != nil {
		return err
	}
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return err
	}
	f, err := s.forShims(ctx, item.Value)
	if err != nil {
		return err
	}
	spec.Shim = f.shimOf(spec, pods)
	if why := f.tooLarge(); why != nil && spec.GetShim() != nil {
		return refusal.New("run pod "+spec.GetName(), why)
	}
	return nil
}

// Announce has a service's other pods understand a pod that is on record, before it is made. What cannot be done now is left to later.
func (s *Services) Announce(ctx context.Context, spec *drydockv1.PodSpec) {
	name := spec.GetLabels()[manifest.LabelService]
	if name == "" {
		return
	}
	if _, _, err := s.settle(ctx, name); err != nil {
		s.Log.Warn("shims of a service before a pod of it is made", "service", name, "pod", spec.GetName(), "error", err)
	}
}

// podsWithShims are all pods, with all of their shims: lists of pods leave out what is large.
func (s *Services) podsWithShims(ctx context.Context) ([]*drydockv1.Pod, error) {
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if pod.GetSpec().GetShim() == nil {
			continue
		}
		record, err := store.Get[drydockv1.PodRecord](ctx, s.Store, s.Prefix+"pods/"+pod.GetSpec().GetName())
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pod.Spec.Shim = record.Value.GetSpec().GetShim()
	}
	return pods, nil
}

// shimsWithin is how long it may take until the service's pods have the shims that they need.
const shimsWithin = 2 * time.Minute

// shims has the service's other pods understand whoever speaks the new version, before a pod of it is there.
func (x *execution) shims(ctx context.Context, p *drydockv1.UpgradePod) error {
	began := x.Now()
	for {
		why, err := x.settled(ctx)
		if err != nil || why == "" {
			return err
		}
		if x.Now().After(began.Add(shimsWithin)) {
			return failed(why, "see `drydock shim ls` and the log of its host")
		}
		if err := x.pause(ctx, p, why); err != nil {
			return err
		}
	}
}

// settled says what keeps the service's pods from having the shims that they need; no text: nothing.
func (x *execution) settled(ctx context.Context) (string, error) {
	u, err := x.head(ctx)
	if err != nil {
		return "", err
	}
	f, missing, err := x.settle(ctx, u.GetService())
	if err != nil {
		return "", err
	}
	for pod, why := range missing {
		return fmt.Sprintf("the shim of pod %s is not as mixed versions need it: %s", pod, why), nil
	}
	pods, err := x.podsWithShims(ctx)
	if err != nil {
		return "", err
	}
	for _, pod := range pods {
		name := pod.GetSpec().GetName()
		if !f.concerns(pod) || f.becoming[name] != "" || pod.GetPhase() != drydockv1.PodPhase_POD_PHASE_RUNNING {
			continue
		}
		if !f.has(pod, pods) {
			return fmt.Sprintf("the shim of pod %s is not as mixed versions need it: it was taken back, or changes at the moment", name), nil
		}
		if _, err := x.shimServes(ctx, pod); err != nil {
			return fmt.Sprintf("the shim of pod %s does not serve yet: %s", name, err), nil
		}
	}
	return "", nil
}

// concerns says whether a pod serves the service, or is its gateway.
func (f forShims) concerns(pod *drydockv1.Pod) bool {
	labels := pod.GetSpec().GetLabels()
	return labels[manifest.LabelService] == f.stored.GetName() || labels[manifest.LabelGateway] == f.stored.GetName()
}

// has says whether a pod's record has the shim that the pod needs. Where pods were settled before, it may have lost it again: a host may
// have refused what another look had just asked for.
func (f forShims) has(pod *drydockv1.Pod, pods []*drydockv1.Pod) bool {
	shim := pod.GetSpec().GetShim()
	if pod.GetSpec().GetLabels()[manifest.LabelGateway] != f.stored.GetName() {
		return proto.Equal(shim, f.shimOf(pod.GetSpec(), pods))
	}
	if f.head.Gateway == nil || f.head.Gateway.Pod != pod.GetSpec().GetName() {
		return true
	}
	wanted := f.gatewayShim(shim, pods)
	return len(wanted.GetBackends()) == 0 || proto.Equal(shim, wanted)
}

// shimServes is the shim that a pod's record wants, as its host sees it; an error where that does not serve. It is nil where none is
// wanted.
func (s *Services) shimServes(ctx context.Context, pod *drydockv1.Pod) (*drydockv1.ShimState, error) {
	wanted := pod.GetSpec().GetShim()
	if wanted == nil {
		return nil, nil
	}
	state, err := s.shimState(ctx, pod)
	if err != nil {
		return nil, err
	}
	return state, wrongWith(state, wanted)
}

// shimAnswersWithin is how long a pod's host may take to say how its shim is: one that is silent must not stop who looks at many.
const shimAnswersWithin = 10 * time.Second

// shimState is a pod's shim as its host sees it.
func (s *Services) shimState(ctx context.Context, pod *drydockv1.Pod) (*drydockv1.ShimState, error) {
	name := pod.GetSpec().GetName()
	ctx, cancel := context.WithTimeout(ctx, shimAnswersWithin)
	defer cancel()
	agent, _, err := s.Controller.Agent(ctx, "look at the shim of pod "+name, pod.GetHost())
	if err != nil {
		return nil, err
	}
	response, err := agent.GetPodShim(ctx, connect.NewRequest(&drydockv1.GetPodShimRequest{Pod: name}))
	if err != nil {
		return nil, err
	}
	return response.Msg.GetState(), nil
}

func wrongWith(state *drydockv1.ShimState, wanted *drydockv1.ShimSpec) error {
	if state.GetState() == "serving" && state.GetGeneration() == wanted.GetGeneration() {
		return nil
	}
	return fmt.Errorf("it is %s, generation %d of %d", state.GetState(), state.GetGeneration(), wanted.GetGeneration())
}

// record is that of the upgrade's service.
func (x *execution) record(ctx context.Context) (*drydockv1.ServiceRecord, error) {
	u, err := x.head(ctx)
	if err != nil {
		return nil, err
	}
	item, err := x.service(ctx, u.GetService())
	return item.Value, err
}
