package orchestrator

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

func TestAPlanTouchesNothingAndSaysWhereEveryPodGoes(t *testing.T) {
	c := newCluster(t, plainPool)
	response, err := c.rollouts.PlanPool(t.Context(), connect.NewRequest(&drydockv1.PlanPoolRequest{Pool: "web"}))
	c.must(err)
	p := response.Msg.GetPlan()
	if len(p.GetRounds()) != 3 || len(p.GetBlockers()) != 0 || len(p.GetPods()) != 6 {
		t.Fatalf("got %v", p)
	}
	first := p.GetRounds()[0].GetHosts()[0]
	if !first.GetReboot() || !first.GetDrained() || first.GetPatch().GetPackages()[0].GetTo() != "3.0.2" || first.GetWhy() == "" {
		t.Errorf("got %v", first)
	}
	for _, h := range c.hosts {
		if len(h.patcher.steps) != 0 {
			t.Errorf("host %s was touched: %v", h.name, h.patcher.steps)
		}
	}
	c.allRun()
}

func TestAPlanNamesHostsForWhichNoWindowIsLongEnough(t *testing.T) {
	c := newCluster(t, plainPool+"windows: [{from: \"22:00\", to: \"22:01\", min-left: 1s}]\n")
	response, err := c.rollouts.PlanPool(t.Context(), connect.NewRequest(&drydockv1.PlanPoolRequest{Pool: "web"}))
	c.must(err)
	p := response.Msg.GetPlan()
	if len(p.GetRounds()) != 0 || len(p.GetBlockers()) != 3 {
		t.Fatalf("got %v", p)
	}
	for _, b := range p.GetBlockers() {
		if !strings.Contains(b.GetReason(), "pool web has no window of more than 1m0s") || b.GetRemedy() == "" {
			t.Errorf("got %v", b)
		}
	}
}

func TestARolloutPatchesEveryHostOnceAndEveryPodRunsOn(t *testing.T) {
	c := newCluster(t, plainPool)
	id := c.mustStart("web")
	rollout := c.rests(id, rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
	if rollout.GetHostsPatched() != 3 || rollout.GetHostsFailed() != 0 || rollout.GetEnded() == nil || rollout.GetStartedBy() != fmt.Sprintf("uid %d", os.Getuid()) || len(rollout.GetMoves()) < 6 {
		t.Errorf("got %v", rollout)
	}
	for _, h := range rollout.GetHosts() {
		if h.GetState() != hostPatched || h.GetRebootKind() != "simulated" || h.GetOldBootId() == h.GetBootId() || !h.GetResult().GetDone() || len(h.GetWarnings()) != 1 {
			t.Errorf("got %v", h)
		}
	}
	if record, err := c.Controller.rollouts.Pool(t.Context(), "web"); err != nil || record.GetRollout() != "" {
		t.Errorf("the pool is not free: %v, %v", record, err)
	}
}
