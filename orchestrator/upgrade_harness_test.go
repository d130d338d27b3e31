package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
)

// fakeUpgrades are a fake host's pods as upgrades leave them. Its host's mutex guards it.
type fakeUpgrades struct {
	// specs are what the host keeps of pods, and stored what their volumes hold.
	specs  map[string]*drydockv1.PodSpec
	stored map[string]string
	// before is what a transform has kept for the way back.
	before map[string]kept
	// sick says why a version does not get healthy, by image; broken why its program fails.
	sick, broken map[string]string
	commands     []string
	// shims are the shims of pods, and events what was done to pods and their shims, in order.
	shims  map[string]*drydockv1.ShimSpec
	events []string
	// noShims is why no pod here can have a shim.
	noShims string
	// starting is a pod whose shim takes up what it is told, and does not serve.
	starting string
	// calls are what a gateway's servers have under way.
	calls map[string]int64
	// unmade is a pod that is not made here for the time being.
	unmade string
}

type kept struct {
	id     string
	spec   *drydockv1.PodSpec
	stored string
}

func (u *fakeUpgrades) created(spec *drydockv1.PodSpec) {
	if u.specs == nil {
		u.specs, u.stored, u.before, u.shims = map[string]*drydockv1.PodSpec{}, map[string]string{}, map[string]kept{}, map[string]*drydockv1.ShimSpec{}
	}
	if u.specs[spec.GetName()] == nil {
		u.specs[spec.GetName()] = proto.CloneOf(spec)
		u.stored[spec.GetName()] = spec.GetLabels()["drydock/version"]
		u.shims[spec.GetName()] = spec.GetShim()
		u.events = append(u.events, spec.GetName()+" is made")
	}
}

func (h *fakeHost) FetchImage(context.Context, *connect.Request[drydockv1.FetchImageRequest]) (*connect.Response[drydockv1.FetchImageResponse], error) {
	return connect.NewResponse(&drydockv1.FetchImageResponse{}), nil
}

func (h *fakeHost) TransformPod(_ context.Context, r *connect.Request[drydockv1.TransformPodRequest]) (*connect.Response[drydockv1.TransformPodResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	spec := r.Msg.GetSpec()
	name := spec.GetName()
	if _, runs := h.pods[name]; runs {
		return nil, connect.NewError(connect.CodeInternal, errors.New("it runs"))
	}
	u := &h.upgrades
	if u.before[name].id == r.Msg.GetUpgrade() {
		return connect.NewResponse(&drydockv1.TransformPodResponse{}), nil
	}
	if why := u.broken[spec.GetContainers()[0].GetImage()]; why != "" {
		return nil, connect.NewError(connect.CodeInternal, errors.New(why))
	}
	u.before[name] = kept{r.Msg.GetUpgrade(), u.specs[name], u.stored[name]}
	u.specs[name] = proto.CloneOf(spec)
	u.shims[name] = spec.GetShim()
	u.events = append(u.events, name+" becomes "+spec.GetLabels()["drydock/version"])
	if len(r.Msg.GetCommand()) > 0 {
		u.commands = append(u.commands, strings.Join(r.Msg.GetCommand(), " "))
		u.stored[name] = spec.GetLabels()["drydock/version"]
	}
	return connect.NewResponse(&drydockv1.TransformPodResponse{}), nil
}

func (h *fakeHost) RevertPod(_ context.Context, r *connect.Request[drydockv1.RevertPodRequest]) (*connect.Response[drydockv1.RevertPodResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := r.Msg.GetPod()
	if _, runs := h.pods[name]; runs {
		return nil, connect.NewError(connect.CodeInternal, errors.New("it runs"))
	}
	if before := h.upgrades.before[name]; before.id == r.Msg.GetUpgrade() {
		h.upgrades.specs[name], h.upgrades.stored[name] = before.spec, before.stored
		delete(h.upgrades.before, name)
	}
	return connect.NewResponse(&drydockv1.RevertPodResponse{}), nil
}

func (h *fakeHost) SettlePod(_ context.Context, r *connect.Request[drydockv1.SettlePodRequest]) (*connect.Response[drydockv1.SettlePodResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.upgrades.before, r.Msg.GetPod())
	return connect.NewResponse(&drydockv1.SettlePodResponse{}), nil
}

func (h *fakeHost) SetPodShim(_ context.Context, r *connect.Request[drydockv1.SetPodShimRequest]) (*connect.Response[drydockv1.SetPodShimResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name, shim := r.Msg.GetPod(), r.Msg.GetShim()
	if h.upgrades.noShims != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(h.upgrades.noShims))
	}
	if !proto.Equal(h.upgrades.shims[name], shim) {
		h.upgrades.events = append(h.upgrades.events, shimEvent(name, shim))
	}
	h.upgrades.shims[name] = shim
	return connect.NewResponse(&drydockv1.SetPodShimResponse{State: h.upgrades.stateOf(name)}), nil
}

// shimEvent has a gateway's backends; ! is one that is held.
func shimEvent(pod string, shim *drydockv1.ShimSpec) string {
	if len(shim.GetBackends()) == 0 {
		return strings.TrimSpace("shim of " + pod + " " + shim.GetVersion())
	}
	event := "gateway " + pod
	for _, b := range shim.GetBackends() {
		event += " " + b.GetName() + "=" + b.GetVersion()
		if b.GetHold() {
			event += "!"
		}
	}
	return event
}

func (h *fakeHost) GetPodShim(_ context.Context, r *connect.Request[drydockv1.GetPodShimRequest]) (*connect.Response[drydockv1.GetPodShimResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return connect.NewResponse(&drydockv1.GetPodShimResponse{State: h.upgrades.stateOf(r.Msg.GetPod())}), nil
}

func (u *fakeUpgrades) stateOf(pod string) *drydockv1.ShimState {
	state := &drydockv1.ShimState{Pod: pod, State: "none"}
	if shim := u.shims[pod]; shim != nil {
		state.State, state.Generation = "serving", shim.GetGeneration()
		for _, b := range shim.GetBackends() {
			state.Backends = append(state.Backends, &drydockv1.ShimBackendState{Backend: b, Healthy: true, Calls: u.calls[b.GetName()]})
		}
	}
	if pod == u.starting {
		state.State = "starting"
	}
	return state
}

func (h *fakeHost) ListAgentPods(context.Context, *connect.Request[drydockv1.ListAgentPodsRequest]) (*connect.Response[drydockv1.ListAgentPodsResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	response := &drydockv1.ListAgentPodsResponse{}
	for name, spec := range h.upgrades.specs {
		if _, runs := h.pods[name]; !runs {
			continue
		}
		status := &drydockv1.ContainerStatus{Name: spec.GetContainers()[0].GetName(), State: "running"}
		if why := h.upgrades.sick[spec.GetContainers()[0].GetImage()]; why != "" {
			status.Healthy, status.HealthMessage = new(bool), why
		}
		response.Pods = append(response.Pods, &drydockv1.Pod{Spec: spec, Epoch: h.pods[name], Phase: phaseRunning, Containers: []*drydockv1.ContainerStatus{status}})
	}
	return connect.NewResponse(response), nil
}

// shopRecord is of a service with three versions; schedule is that between v1 and v2.
func shopRecord(schedule string) string {
	return fmt.Sprintf(`service: shop
client: {default: v1}
versions: [v1, v2, v3]
pairs:
  - {between: [v1, v2], up: none, down: none, transform: {command: [/bin/up], back: [/bin/back], timeout: 1m}, schedule: %s, disallowed: none}
  - {between: [v2, v3], up: none, down: none, transform: {command: [/bin/up3], timeout: 1m}, schedule: {kind: rolling, at-once: 2}, disallowed: none}
`, schedule)
}

func (l *lab) applyRecord(text string) error {
	_, err := l.upgrades.ApplyService(l.Context(), connect.NewRequest(&drydockv1.ApplyServiceRequest{Name: "shop", Text: []byte(text), File: "shop.yaml"}))
	return err
}

// shop has a service whose record says how it is upgraded, images of three versions, and pods of the first on a host.
func newShop(t *testing.T, schedule string, pods ...string) (*lab, *fakeHost) {
	t.Helper()
	l := newLab(t)
	h := l.join("h1")
	for _, version := range []string{"1", "2", "3"} {
		l.imageAs("shop:"+version, "archive of version "+strings.Repeat(version, 1+len(version)*int(version[0]-'0')))
	}
	l.must(l.applyRecord(shopRecord(schedule)))
	for _, name := range pods {
		l.serve(name, "v1", nil)
	}
	return l, h
}

func (l *lab) imageAs(reference, data string) {
	l.Helper()
	stream := l.admin.ImportImage(l.Context())
	l.must(stream.Send(&drydockv1.ImportImageRequest{Header: &drydockv1.ImportImageHeader{Reference: reference, Host: "h1"}}))
	l.must(stream.Send(&drydockv1.ImportImageRequest{Data: []byte(data)}))
	_, err := stream.CloseAndReceive()
	l.must(err)
}

// serve runs a pod of the shop.
func (l *lab) serve(name, version string, labels map[string]string) {
	l.Helper()
	_, err := l.runSpec(serving(name, version, labels), "h1")
	l.must(err)
}

func serving(name, version string, labels map[string]string) *drydockv1.PodSpec {
	all := map[string]string{"drydock/service": "shop", "drydock/version": version}
	for k, v := range labels {
		all[k] = v
	}
	return &drydockv1.PodSpec{Name: name, Labels: all, Containers: []*drydockv1.Container{{Image: "shop:" + version[1:]}}}
}

func (l *lab) upgradeTo(version string, pods ...string) (*drydockv1.Upgrade, error) {
	response, err := l.upgrades.StartUpgrade(l.Context(), connect.NewRequest(&drydockv1.StartUpgradeRequest{
		Service: "shop", To: version, Image: "shop:" + version[1:], Pods: pods,
	}))
	if err != nil {
		return nil, err
	}
	return response.Msg.GetUpgrade(), nil
}

func (l *lab) mustUpgradeTo(version string, pods ...string) string {
	l.Helper()
	u, err := l.upgradeTo(version, pods...)
	l.must(err)
	return u.GetId()
}

func (l *lab) upgrade(id string) *drydockv1.Upgrade {
	l.Helper()
	response, err := l.upgrades.GetUpgrade(context.Background(), connect.NewRequest(&drydockv1.GetUpgradeRequest{Id: id}))
	l.must(err)
	return response.Msg.GetUpgrade()
}

// becomes waits until an upgrade is in a state.
func (l *lab) becomes(id string, state drydockv1.UpgradeState) *drydockv1.Upgrade {
	l.Helper()
	var last *drydockv1.Upgrade
	l.eventually(fmt.Sprintf("upgrade %s is %s", id, state), func() bool {
		last = l.upgrade(id)
		return last.GetState() == state
	})
	return last
}

// shows checks what runs on a host, as name, version, what is stored.
func (h *fakeHost) shows(t *testing.T, want ...string) {
	t.Helper()
	for _, line := range want {
		name, _, _ := strings.Cut(line, " ")
		if got := h.shown(name); got != line {
			t.Errorf("%s: got %q, want %q", h.name, got, line)
		}
	}
}

func (h *fakeHost) shown(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	got := fmt.Sprintf("%s %s %s", name, h.upgrades.specs[name].GetLabels()["drydock/version"], h.upgrades.stored[name])
	if _, runs := h.pods[name]; !runs {
		got += " stopped"
	}
	return got
}

// gateKeeper lets a controller's fault points be looked at.
type gateKeeper struct {
	mu    sync.Mutex
	seen  []string
	holds map[string]chan struct{}
}

// reached waits until a controller is at a point.
func (g *gateKeeper) reached(l *lab, point string) {
	l.Helper()
	l.eventually("reached: "+point, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return slices.Contains(g.seen, point)
	})
}

func (g *gateKeeper) at(point string) error {
	g.mu.Lock()
	g.seen = append(g.seen, point)
	wait := g.holds[point]
	g.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return nil
}
