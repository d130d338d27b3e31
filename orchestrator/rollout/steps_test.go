package rollout

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/audit"
	"drydock/orchestrator/refusal"
)

func TestStepsOfARoundAreRepeatedForEachRound(t *testing.T) {
	round := []string{
		"admit", "occupy", "before-hooks", "cordon", "drain", "patch", "reboot", "verify", "return", "uncordon", "after-hooks", "soak", "gates",
	}
	want := []string{"start-hooks", "start-gates", "download"}
	want = append(append(append(want, round...), round...), "admit", "end-gates", "end-hooks")
	head := &drydockv1.Rollout{Step: steps()[0].name, Rounds: 2}
	var got []string
	for head.GetStep() != "" {
		s, ok := stepNamed(head.GetStep())
		if !ok {
			t.Fatalf("there is no step %s", head.GetStep())
		}
		got = append(got, s.name)
		head.Step = after(s, head)
		if s.name == stepHostGates {
			head.Round++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAHostIsWholeUntilItsPatchIsBegunAndOnceItIsVerified(t *testing.T) {
	patch := &drydockv1.Patch{Packages: []*drydockv1.PinnedPackage{{Name: "openssl"}}}
	for name, test := range map[string]struct {
		h    *drydockv1.RolloutHost
		want bool
	}{
		"it is cordoned":                    {&drydockv1.RolloutHost{Patch: patch, Step: "cordon"}, true},
		"it is being patched":               {&drydockv1.RolloutHost{Patch: patch, Step: stepPatch}, false},
		"it is patched":                     {&drydockv1.RolloutHost{Patch: patch, Step: "verify", Applied: true}, false},
		"an earlier patch has failed":       {&drydockv1.RolloutHost{Patch: patch, Step: "cordon", Steps: []*drydockv1.RolloutStep{{Name: stepPatch, Error: "no room"}}}, false},
		"it has nothing to install":         {&drydockv1.RolloutHost{Step: stepPatch}, true},
		"it was told to reboot":             {&drydockv1.RolloutHost{Step: stepReboot, OldBootId: "b1"}, false},
		"it is verified":                    {&drydockv1.RolloutHost{Patch: patch, Step: "return", Applied: true, OldBootId: "b1", Verified: true}, true},
		"there was nothing to be installed": {&drydockv1.RolloutHost{Step: "verify", Steps: []*drydockv1.RolloutStep{{Name: stepPatch, Skipped: "no package is to be installed"}}}, true},
	} {
		if got := whole(test.h); got != test.want {
			t.Errorf("%s: whole is %t", name, got)
		}
	}
}

func TestWhatStopsAStepIsOnRecordAsWhatItIs(t *testing.T) {
	why := refusal.Because("the disk is full", "make room")
	for name, test := range map[string]struct {
		err             error
		outcome, detail string
	}{
		"nothing":            {nil, audit.Done, ""},
		"a setback":          {errors.Join(&setback{"patch", []*drydockv1.Refusal{why}}), audit.Failed, "patch: the disk is full"},
		"a host is left out": {&skipped{why}, audit.Refused, "the disk is full"},
		"an order":           {fmt.Errorf("drain: %w", errAsked), audit.Left, errAsked.Error()},
		"a refusal":          {refusal.New("stop pod a", why), audit.Refused, "stop pod a: refused: the disk is full: make room"},
		"anything else":      {errors.New("broken"), audit.Failed, "broken"},
	} {
		outcome, detail := outcomeOf(test.err)
		if outcome != test.outcome || detail != test.detail {
			t.Errorf("%s: got %s, %q", name, outcome, detail)
		}
	}
}
