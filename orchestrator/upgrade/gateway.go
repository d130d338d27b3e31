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
	}
	switch pod.GetPhase() {
	case drydockv1.PodPhase_POD_PHASE_MOVING:
		return "it is moving", nil
	case drydockv1.PodPhase_POD_PHASE_RUNNING, drydockv1.PodPhase_POD_PHASE_STOPPED, drydockv1.PodPhase_POD_PHASE_LOST:
		// One that does not run may be started any time, and leads calls at once.
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

// hold has the service's gateway keep calls to the pod until it is healthy again, and waits for those that are under way. The pod is
// stopped only when the gateway says that it keeps them: one that cannot be told within shimsWithin is a setback.
func (x *execution) hold(ctx context.Context, p *drydockv1.UpgradePod) error {
	began := x.Now()
	var told time.Time
	for {
		calls, why, err := x.tellGateway(ctx, p)
		if err != nil {
			return err
		}
		now := x.Now()
		if why == "" && told.IsZero() {
			told = now
		}
		switch {
		case why == "" && (calls == 0 || now.After(told.Add(callsEndWithin))):
			return nil
		case why == "":
			why = fmt.Sprintf("%d calls are under way", calls)
		case now.After(began.Add(shimsWithin)):
			return failed(why, "see `drydock shim ls`, `drydock host ls` and the log of its host; when it serves, resume the upgrade: `drydock upgrade resume "+x.id+"`")
		}
		if err := x.pause(ctx, p, why); err != nil {
			return err
		}
	}
}

// release has the gateway lead calls to the pod again. Where it cannot be told within shimsWithin, the upgrade goes on without: the pod
// runs, and nobody stops it before the gateway has been told to keep calls once more. Until then those that wait in the gateway go on
// waiting, as long as it lets them; settleShims tells it as soon as that can be done, and no other pod gets past the step shims before.
func (x *execution) release(ctx context.Context, p *drydockv1.UpgradePod) error {
	began := x.Now()
	for {
		_, why, err := x.tellGateway(ctx, p)
		if err != nil || why == "" {
			return err
		}
		if x.Now().After(began.Add(shimsWithin)) {
			x.Log.Warn("upgrade: calls to a pod wait until its gateway can be told", "upgrade", x.id, "pod", p.GetPod(), "reason", why)
			return nil
		}
		x.show(p.GetPod(), why) // it waits where an operator has asked for the end too
		sleep(ctx, x.LookEvery)
	}
}

// tellGateway has the service's gateway do what the upgrade's state says. It returns how many calls the pod has from it, or why it does
// not do so yet. A gateway that does not run has nothing to be told.
func (x *execution) tellGateway(ctx context.Context, p *drydockv1.UpgradePod) (calls int64, why string, err error) {
	u, err := x.head(ctx)
	if err != nil {
		return 0, "", err
	}
	f, missing, err := x.settle(ctx, u.GetService())
	if err != nil || f.head.Gateway == nil {
		return 0, "", err
	}
	gateway := "the gateway, pod " + f.head.Gateway.Pod
	if why := missing[f.head.Gateway.Pod]; why != "" {
		return 0, gateway + ": " + why, nil
	}
	pods, err := x.podsWithShims(ctx)
	if err != nil {
		return 0, "", err
	}
	pod := named(pods, f.head.Gateway.Pod)
	switch pod.GetPhase() {
	case drydockv1.PodPhase_POD_PHASE_RUNNING:
	case drydockv1.PodPhase_POD_PHASE_PENDING:
		return 0, gateway + ", is being started, and leads calls as it knew the servers before", nil
	case drydockv1.PodPhase_POD_PHASE_MOVING, drydockv1.PodPhase_POD_PHASE_UNKNOWN:
		return 0, gateway + ", leads calls and cannot be told at the moment: it moves, or its host is silent", nil
	default:
		return 0, "", nil
	}
	if !f.has(pod, pods) {
		return 0, gateway + ", does not know all servers as they are now", nil
	}
	state, err := x.shimServes(ctx, pod)
	if err != nil {
		return 0, gateway + ", does not serve as it should: " + err.Error(), nil
	}
	for _, b := range state.GetBackends() {
		if b.GetBackend().GetName() == p.GetPod() {
			calls = b.GetCalls()
		}
	}
	return calls, "", nil
}
