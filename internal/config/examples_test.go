package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheExampleOfAControllerLoads(t *testing.T) {
	got, err := LoadController("../../configs/controller.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := controllerDefaults()
	want.Listen, want.PodPrefixLength, want.Gateway = "10.77.0.2:7440", 16, "10.77.0.1"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheExampleOfAnAgentLoads(t *testing.T) {
	got, err := LoadAgent("../../configs/agent.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := agentDefaults()
	want.Name, want.Listen, want.Controllers = "h1", "10.77.0.11:7441", []string{"https://10.77.0.2:7440"}
	want.Labels = map[string]string{"tier": "web", "rack": "r1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
