package wire

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
)

// What a rollout keeps of its rounds must be enough to verify them again.
func TestWhatIsVerifiedOfAPlanSurvivesBeingKept(t *testing.T) {
	pkg := plan.Package{Name: "openssl", From: "3.0.1", To: "3.0.2"}
	p := &plan.Plan{Pool: "web", Rounds: []plan.Round{
		{
			Hosts: []plan.HostStep{{Host: "h1", Drained: true, Reboot: true, Patch: []plan.Package{pkg}}},
			Drain: [][]plan.Move{
				{{Pod: "a", From: "h1", To: "h2", Mode: plan.Precopy, Blackout: time.Second}, {Pod: "b", From: "h1", To: "h3", Mode: plan.Stop}},
				{{Pod: "c", From: "h1", To: "h1", Restart: true}},
			},
			Return: [][]plan.Move{{{Pod: "a", From: "h2", To: "h1", Mode: plan.Postcopy}}},
		},
		{Hosts: []plan.HostStep{{Host: "h2"}}},
	}}
	patches := map[string]*drydockv1.Patch{"h1": {Packages: []*drydockv1.PinnedPackage{{Name: pkg.Name, From: pkg.From, To: pkg.To}}}}
	message := FromPlan(p, patches)
	if diff := cmp.Diff(p, ToPlan("web", message.GetRounds())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := message.GetRounds()[0].GetHosts()[0].GetPatch(); got != patches["h1"] {
		t.Errorf("got %v", got)
	}
}
