package orchestrator

import (
	"os"
	"slices"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/audit"
)

// recordedOf are the events that a rollout has recorded by itself.
func (c *cluster) recordedOf(id string) []*drydockv1.Event {
	c.Helper()
	var own []*drydockv1.Event
	c.must(c.trail.List(c.Context(), &drydockv1.ListEventsRequest{}, func(e *drydockv1.Event) error {
		if strings.HasPrefix(e.GetReason(), rolloutOwner+id) {
			own = append(own, e)
		}
		return nil
	}))
	return own
}

// verbsOf are the verbs of an object's events, with what became of each.
func verbsOf(events []*drydockv1.Event, object string) []string {
	var verbs []string
	for _, e := range events {
		if e.GetObject() == object {
			verbs = append(verbs, e.GetVerb()+": "+e.GetOutcome())
		}
	}
	return verbs
}

func TestEverythingThatARolloutDoesIsRecordedWithWhoAndWhyAndWhatBecameOfIt(t *testing.T) {
	hook := filepathOf(t, "#!/bin/sh\nexit 0\n")
	c := newCluster(t, plainPool+"hooks:\n  before-host: [{command: [/bin/backup], run: host}]\n  end: [{command: ["+hook+"]}]\n"+
		"gates: [{name: ready, cel: host.state == \"ready\"}]\n")
	id := c.mustStart("web")
	rollout := c.rests(id, rolloutFinished)
	events := c.recordedOf(id)
	for _, e := range events {
		if e.GetActor() != "controller c1" || e.GetOutcome() != audit.Done || e.GetEnded() == nil {
			t.Errorf("got %v", e)
		}
	}
	want := []string{
		"rollout download: done", "rollout occupy: done", "rollout before-hooks: done", "run hook: done", "rollout cordon: done", "rollout patch: done",
		"rollout reboot: done", "rollout verify: done", "rollout uncordon: done", "patch: done",
	}
	for _, h := range rollout.GetHosts() {
		if got := verbsOf(events, "host "+h.GetHost()); !slices.Equal(got, want) {
			t.Errorf("of host %s: %v", h.GetHost(), got)
		}
	}
	whole := verbsOf(events, "rollout "+id)
	for _, verb := range []string{"admit", "drain", "return", "gates"} {
		if n := strings.Count(strings.Join(whole, "\n"), "rollout "+verb+": done"); n < 3 {
			t.Errorf("%s is recorded %d times: %v", verb, n, whole)
		}
	}
	if !slices.Contains(whole, "run hook: done") {
		t.Errorf("of the whole: %v", whole)
	}
	moved := 0
	for _, e := range events {
		if e.GetVerb() == "migrate" && strings.HasPrefix(e.GetObject(), "pod ") && strings.HasPrefix(e.GetDetail(), "migration ") {
			moved++
		}
	}
	if moved != len(rollout.GetMoves()) {
		t.Errorf("%d moves are recorded, and %d were made", moved, len(rollout.GetMoves()))
	}
	patch := events[slices.IndexFunc(events, func(e *drydockv1.Event) bool { return e.GetVerb() == "rollout patch" })]
	if !strings.Contains(patch.GetReason(), "openssl=3.0.2 (DSA-1)") {
		t.Errorf("the record does not say what was installed, and why: %v", patch)
	}
}

// filepathOf is a program with this text.
func filepathOf(t *testing.T, text string) string {
	t.Helper()
	file := t.TempDir() + "/hook"
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWhatFailsInARolloutIsRecordedWithItsReason(t *testing.T) {
	c := newCluster(t, plainPool)
	c.hosts["h1"].patcher.failsAt("apply", nil)
	id := c.mustStart("web")
	c.rests(id, rolloutStopped)
	events := c.recordedOf(id)
	got := verbsOf(events, "host h1")
	if n := len(got); n < 2 || got[n-2] != "rollout patch: failed" || got[n-1] != "patch: failed" {
		t.Fatalf("got %v", got)
	}
	for _, e := range events {
		if e.GetOutcome() == audit.Failed && !strings.Contains(e.GetDetail(), "apply is broken") && e.GetVerb() != "rollout admit" {
			t.Errorf("got %v", e)
		}
	}
	if all := c.events("rollout " + id); !strings.Contains(strings.Join(all, "\n"), "rollout stopped rollout "+id) {
		t.Errorf("got %v", all)
	}
}
