package orchestrator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
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
		rollouts, err := c.listRollouts(t.Context(), "web", 0)
		if err != nil || len(rollouts) == 0 {
			continue
		}
		if id = rollouts[0].GetId(); over(rollouts[0].GetState()) {
			break
		}
		if !active(rollouts[0].GetState()) {
			t.Fatalf("the rollout is %s: %v", stateWord(rollouts[0].GetState()), c.get(id))
		}
	}
	k.arm(nil)
	c.patched(1, "h1", "h2")
	if got := c.get(id); got.GetState() != rolloutFinished || got.GetHostsPatched() != 2 {
		t.Errorf("got %v", got)
	}
	t.Logf("%d controllers died: %s", len(k.order), strings.Join(k.order, ", "))
	for _, step := range rolloutSteps() {
		for _, point := range []string{"rollout begins " + step.name, "rollout did " + step.name} {
			if !slices.Contains(k.order, point) {
				t.Errorf("no controller died at %q", point)
			}
		}
		if step.each == nil {
			continue
		}
		for _, name := range []string{"h1", "h2"} {
			if point := fmt.Sprintf("rollout did %s on %s", step.name, name); !slices.Contains(k.order, point) {
				t.Errorf("no controller died at %q", point)
			}
		}
	}
}
