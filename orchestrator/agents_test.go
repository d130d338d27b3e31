package orchestrator

import (
	"testing"

	drydockv1 "drydock/api/drydock/v1"
)

func TestAHostThatHasBootedIsReachedOverANewConnection(t *testing.T) {
	l := newLab(t)
	agents := newAgents(l.agents.keeper)
	at := func(boot string) any {
		agent, err := agents.at(&drydockv1.HostRecord{Name: "h1", Address: "10.0.0.1:7444", BootId: boot})
		l.must(err)
		return agent
	}
	first := at("one")
	if at("one") != first {
		t.Error("in the same boot the connection is another")
	}
	if at("two") == first {
		t.Error("after a boot the connection is the same")
	}
}
