package upgrade

import (
	"fmt"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
)

func TestAServerIsTheGatewaysFromWhenItFirstServes(t *testing.T) {
	stored := &drydockv1.ServiceRecord{Name: "shop", Text: []byte("client: {default: v1, header: X-V}\nversions: [v1, v2]\ngateway: {pod: front, image: idle, ports: [80]}\n")}
	h, err := headOf(stored)
	if err != nil {
		t.Fatal(err)
	}
	server := func(name string, phase drydockv1.PodPhase, healthy string) *drydockv1.Pod {
		status := &drydockv1.ContainerStatus{Name: name}
		if healthy != "" {
			yes := healthy == "yes"
			status.Healthy = &yes
		}
		return &drydockv1.Pod{
			Phase: phase, Containers: []*drydockv1.ContainerStatus{{Name: "drydock-shim"}, status},
			Spec: &drydockv1.PodSpec{
				Name: name, Addresses: []string{"10.0.0.1/8"}, Labels: map[string]string{"drydock/service": "shop", "drydock/version": "v1"},
				Containers: []*drydockv1.Container{{Name: name, Probe: &drydockv1.Probe{Action: &drydockv1.Probe_Http{Http: &drydockv1.Probe_HTTP{Port: 8080}}}}},
			},
		}
	}
	const running, pending = drydockv1.PodPhase_POD_PHASE_RUNNING, drydockv1.PodPhase_POD_PHASE_PENDING
	f := forShims{stored: stored, head: h, held: map[string]bool{"c": true}}
	shown := func(shim *drydockv1.ShimSpec) string {
		var all []string
		for _, b := range shim.GetBackends() {
			all = append(all, fmt.Sprint(b.GetName(), " ", b.GetAddress(), " ", b.GetVersion(), " ", b.GetHold()))
		}
		return strings.Join(all, ", ")
	}
	first := f.gatewayShim(nil, []*drydockv1.Pod{
		server("c", running, "yes"), server("a", running, "yes"), server("unasked", running, ""), server("unwell", running, "no"), server("young", pending, "yes"),
	})
	if got, want := shown(first), "a 10.0.0.1:8080 v1 false, c 10.0.0.1:8080 v1 true"; got != want || first.GetGeneration() != 1 || !first.GetPass() {
		t.Errorf("backends are %s, not %s; %v", got, want, first)
	}
	again := f.gatewayShim(first, []*drydockv1.Pod{server("c", running, "no"), server("a", pending, ""), server("unasked", running, "yes")})
	if got, want := shown(again), "a 10.0.0.1:8080 v1 false, c 10.0.0.1:8080 v1 true, unasked 10.0.0.1:8080 v1 false"; got != want || again.GetGeneration() != 2 {
		t.Errorf("then backends are %s, not %s; generation %d", got, want, again.GetGeneration())
	}
	if same := f.gatewayShim(again, []*drydockv1.Pod{server("c", running, "no"), server("a", pending, ""), server("unasked", running, "yes")}); same.GetGeneration() != 2 {
		t.Errorf("asked again it has generation %d", same.GetGeneration())
	}
}
