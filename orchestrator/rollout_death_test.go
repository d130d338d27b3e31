package orchestrator

import (
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/orchestrator/rollout"
)

// Controllers die at every point of a rollout, one after the other: before and after each step, between hosts, and right after a
// host was told to reboot.
func TestARolloutOutlivesControllersThatDieAtEveryStep(t *testing.T) {
	k := &killer{}
	c := newCluster(t, strings.Replace(plainPool, ", h3", "", 1)+"hooks:\n  before-host: [{command: [/bin/backup], run: host}]\n  start: [{command: [/bin/true]}]\n", armed(k))
	k.arm(c.cancel)
	_, _ = c.start("web") // the controller dies before it answers
	deadline := time.Now().Add(5 * time.Minute)
	var id string
	for {
		if time.Now().After(deadline) {
			t.Fatalf("the rollout has not ended; last died at %v", k.order)
		}
		select {
		case <-k.died:
			c.must(<-c.stopped)
			c.lab.start()
			k.arm(c.cancel)
			continue
		case <-time.After(10 * time.Millisecond):
		}
		rollouts, err := c.Controller.rollouts.List(t.Context(), "web", 0)
		if err != nil || len(rollouts) == 0 {
			continue
		}
		if id = rollouts[0].GetId(); hasEnded(rollouts[0]) {
			break
		}
		if !goesOn(rollouts[0]) {
			t.Fatalf("the rollout is %s: %v", rollouts[0].GetState().String(), c.get(id))
		}
	}
	k.arm(nil)
	c.patched(1, "h1", "h2")
	if got := c.get(id); got.GetState() != rolloutFinished || got.GetHostsPatched() != 2 {
		t.Errorf("got %v", got)
	}
	t.Logf("%d controllers died: %s", len(k.order), strings.Join(k.order, ", "))
	for _, point := range rollout.Points("h1", "h2") {
		if !slices.Contains(k.order, point) {
			t.Errorf("no controller died at %q", point)
		}
	}
}
