package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/manifest"
)

// settleGateway runs a service's gateway where it is missing, and has it know the servers that there are. It returns what is in the
// way, or ErrShimChanged. A gateway without servers stays as it is, and a server is one when it serves for the first time.
func (s *Services) settleGateway(ctx context.Context, f forShims, pods []*drydockv1.Pod) (why string, err error) {
	g := f.head.Gateway
	if g == nil {
		return "", nil
	}
	pod := named(pods, g.Pod)
	wanted := f.gatewayShim(pod.GetSpec().GetShim(), pods)
	switch {
	case len(wanted.GetBackends()) == 0 || proto.Equal(wanted, pod.GetSpec().GetShim()):
		return "", nil
	case f.tooLarge() != nil:
		return f.tooLarge().GetReason(), nil
	case pod == nil:
		err := s.Controller.RunPod(ctx, f.gatewayPod(wanted))
		if err != nil && connect.CodeOf(err) != connect.CodeAlreadyExists {
			return err.Error(), nil
		}
		return "it is being started", nil
	case pod.GetSpec().GetLabels()[manifest.LabelGateway] != f.stored.GetName():
		return "it is not run as the gateway of service " + f.stored.GetName() + ": remove it, or name another in the record", nil
	case pod.GetPhase() == drydockv1.PodPhase_POD_PHASE_MOVING:
		return "it is moving", nil
	case pod.GetPhase() == drydockv1.PodPhase_POD_PHASE_RUNNING:
		err := s.Controller.SetShim(ctx, g.Pod, pod.GetSpec().GetShim().GetGeneration(), wanted)
		if errors.Is(err, ErrShimChanged) {
			return "", err
		}
		if err != nil {
			return err.Error(), nil
		}
	}
	return "", nil
}

func named(pods []*drydockv1.Pod, name string) *drydockv1.Pod {
	i := slices.IndexFunc(pods, func(pod *drydockv1.Pod) bool { return pod.GetSpec().GetName() == name })
	if i < 0 {
		return nil
	}
	return pods[i]
}

// gatewayPod is the gateway as it is run first.
func (f forShims) gatewayPod(shim *drydockv1.ShimSpec) *drydockv1.PodSpec {
	g := f.head.Gateway
	spec := &drydockv1.PodSpec{
		Name: g.Pod, Labels: map[string]string{manifest.LabelGateway: f.stored.GetName()}, Shim: shim,
		Containers: []*drydockv1.Container{{Name: g.Pod, Image: g.Image, Command: g.Command}},
	}
	if g.Address != "" {
		spec.Addresses = []string{g.Address}
	}
	return spec
}

// gatewayShim leads calls to the service's pods as they come: the pods' own shims translate them, and keep what has to be kept
// where it is needed when a pod is upgraded. What somebody else has set of the shim stays.
func (f forShims) gatewayShim(has *drydockv1.ShimSpec, pods []*drydockv1.Pod) *drydockv1.ShimSpec {
	shim := &drydockv1.ShimSpec{}
	if has != nil {
		shim = proto.CloneOf(has)
	}
	shim.Service, shim.Record, shim.Files, shim.Version = f.stored.GetName(), f.stored.GetText(), f.files, ""
	shim.Pass, shim.HealthPath, shim.Ports, shim.Backends = true, f.head.Gateway.Health, nil, nil
	for _, port := range f.head.Gateway.Ports {
		shim.Ports = append(shim.Ports, uint32(port))
	}
	for _, u := range usesOf(f.stored.GetName(), pods) {
		spec := u.pod.GetSpec()
		ports, err := portsOf(spec)
		known := slices.ContainsFunc(has.GetBackends(), func(b *drydockv1.ShimBackend) bool { return b.GetName() == spec.GetName() })
		if u.client || err != nil || len(ports) == 0 || addressOf(spec) == "" || !known && !serves(u.pod) {
			continue
		}
		shim.Backends = append(shim.Backends, &drydockv1.ShimBackend{
			Name: spec.GetName(), Address: net.JoinHostPort(addressOf(spec), strconv.Itoa(int(ports[0]))), Version: u.version, Hold: f.held[spec.GetName()],
		})
	}
	slices.SortFunc(shim.Backends, func(a, b *drydockv1.ShimBackend) int { return strings.Compare(a.GetName(), b.GetName()) })
	if !proto.Equal(has, shim) {
		shim.Generation++
	}
	return shim
}

// serves says whether a pod runs, and whoever probes it has found it healthy.
func serves(pod *drydockv1.Pod) bool {
	probed := func(name string) bool {
		return slices.ContainsFunc(pod.GetSpec().GetContainers(), func(c *drydockv1.Container) bool { return c.GetName() == name && c.GetProbe() != nil })
	}
	return pod.GetPhase() == drydockv1.PodPhase_POD_PHASE_RUNNING && !slices.ContainsFunc(pod.GetContainers(), func(c *drydockv1.ContainerStatus) bool {
		return probed(c.GetName()) && !c.GetHealthy()
	})
}

// dropGateway removes the gateway of a service that has none any more, or another.
func (s *Services) dropGateway(ctx context.Context, before, now *drydockv1.ServiceRecord) error {
	was, err := headOf(before)
	if err != nil || was.Gateway == nil {
		return err
	}
	is, err := headOf(now)
	if err != nil || is.Gateway != nil && is.Gateway.Pod == was.Gateway.Pod {
		return err
	}
	pod, err := s.Controller.GetPod(ctx, was.Gateway.Pod)
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil
	}
	if err != nil || pod.GetSpec().GetLabels()[manifest.LabelGateway] != before.GetName() {
		return err
	}
	return s.Controller.RemovePod(ctx, was.Gateway.Pod)
}

// callsEndWithin is how long a pod that is to be stopped may have calls that came before: after that they are cut off.
const callsEndWithin = 30 * time.Second

// hold has the service's gateway keep calls to the pod until it is healthy again, and waits for those that are under way.
func (x *execution) hold(ctx context.Context, p *drydockv1.UpgradePod) error {
	began := x.Now()
	for {
		calls, err := x.tellGateway(ctx, p)
		if err != nil || calls == 0 || x.Now().After(began.Add(callsEndWithin)) {
			return err
		}
		if err := x.pause(ctx, p, fmt.Sprintf("%d calls are under way", calls)); err != nil {
			return err
		}
	}
}

// release has the gateway lead calls to the pod again.
func (x *execution) release(ctx context.Context, p *drydockv1.UpgradePod) error {
	_, err := x.tellGateway(ctx, p)
	return err
}

// tellGateway has the service's gateway do what the upgrade's state says, and returns how many calls the pod has from it. An error says
// that it has to be tried again. A gateway that does not run has nothing to be told.
func (x *execution) tellGateway(ctx context.Context, p *drydockv1.UpgradePod) (calls int64, err error) {
	u, err := x.head(ctx)
	if err != nil {
		return 0, err
	}
	f, missing, err := x.settle(ctx, u.GetService())
	if err != nil || f.head.Gateway == nil {
		return 0, err
	}
	if why := missing[f.head.Gateway.Pod]; why != "" {
		return 0, fmt.Errorf("the gateway, pod %s: %s", f.head.Gateway.Pod, why)
	}
	pods, err := x.podsWithShims(ctx)
	if err != nil {
		return 0, err
	}
	pod := named(pods, f.head.Gateway.Pod)
	switch pod.GetPhase() {
	case drydockv1.PodPhase_POD_PHASE_RUNNING:
	case drydockv1.PodPhase_POD_PHASE_MOVING, drydockv1.PodPhase_POD_PHASE_UNKNOWN:
		return 0, fmt.Errorf("the gateway, pod %s, leads calls and cannot be told at the moment: it moves, or its host is silent", f.head.Gateway.Pod)
	default:
		return 0, nil
	}
	if !f.has(pod, pods) {
		return 0, fmt.Errorf("the gateway, pod %s, does not know all servers as they are now", f.head.Gateway.Pod)
	}
	state, err := x.shimServes(ctx, pod)
	if err != nil {
		return 0, fmt.Errorf("the gateway, pod %s: %w", f.head.Gateway.Pod, err)
	}
	for _, b := range state.GetBackends() {
		if b.GetBackend().GetName() == p.GetPod() {
			calls = b.GetCalls()
		}
	}
	return calls, nil
}
