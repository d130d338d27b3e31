package agent

import (
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/shim/process"
	"drydock/shim/proxy"
)

func TestTheStateOfAShimHasTheCallsOfItsOlderProcessesToo(t *testing.T) {
	state := func(connections int, calls ...int64) process.State {
		s := process.State{Connections: connections}
		for i, name := range []string{"a", "b"} {
			s.Backends = append(s.Backends, proxy.BackendState{
				Backend: proxy.Backend{Name: name, Address: name + ":8080", Version: "v1", Hold: name == "a"}, Healthy: true, Calls: calls[i],
			})
		}
		return s
	}
	out := &drydockv1.ShimState{Pod: "front"}
	fillState(out, state(5, 0, 3))
	for _, older := range []process.State{state(1, 1, 0), state(2, 1, 2)} {
		addOlder(out, older)
	}
	a, b := out.GetBackends()[0], out.GetBackends()[1]
	if a.GetCalls() != 2 || b.GetCalls() != 5 || out.GetDraining() != 3 || out.GetConnections() != 5 {
		t.Errorf("it has %v", out)
	}
	if !a.GetBackend().GetHold() || b.GetBackend().GetHold() {
		t.Errorf("held are %v", out.GetBackends())
	}
}
