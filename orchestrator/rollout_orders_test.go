package orchestrator

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/rollout"
)

// holds has a host wait in a step until the test lets it go on.
func (f *fakePatcher) holds(step string) (arrived, goOn chan struct{}) {
	arrived, goOn = make(chan struct{}, 100), make(chan struct{})
	f.with(func() {
		f.fails = func(at string) (*drydockv1.Refusal, error) {
			if at == step {
				arrived <- struct{}{}
				<-goOn
			}
			return nil, nil
		}
	})
	return arrived, goOn
}

func TestAPausedRolloutRestsAfterTheStepAndGoesOnFromThere(t *testing.T) {
	c := newCluster(t, plainPool)
	arrived, goOn := c.hosts["h1"].patcher.holds("apply")
	id := c.mustStart("web")
	<-arrived
	_, err := c.rollouts.PauseRollout(t.Context(), connect.NewRequest(&drydockv1.PauseRolloutRequest{Id: id}))
	c.must(err)
	close(goOn)
	rollout := c.rests(id, rolloutPaused)
	if rollout.GetStep() != "reboot" || c.hosts["h1"].patcher.count("apply") != 1 || c.hosts["h1"].patcher.count("reboot") != 0 {
		t.Errorf("got %v", rollout)
	}
	_, err = c.rollouts.PauseRollout(t.Context(), connect.NewRequest(&drydockv1.PauseRolloutRequest{Id: id}))
	c.refused(err, "it is paused")
	c.stop()
	c.lab.start()
	if got := c.get(id).GetState(); got != rolloutPaused {
		t.Errorf("the next controller goes on by itself: %v", got)
	}
	c.resume(id)
	c.rests(id, rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
}

func TestAnAbortedRolloutOpensHostsThatAreWholeAndOnlyThose(t *testing.T) {
	for name, test := range map[string]struct {
		step     string
		cordoned bool
	}{"before the patch": {"occupy", false}, "during the patch": {"apply", true}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, plainPool)
			arrived, goOn := c.hosts["h1"].patcher.holds(test.step)
			id := c.mustStart("web")
			<-arrived
			_, err := c.rollouts.AbortRollout(t.Context(), connect.NewRequest(&drydockv1.AbortRolloutRequest{Id: id}))
			c.must(err)
			close(goOn)
			rollout := c.rests(id, rolloutAborted)
			known, err := c.host(t.Context(), "h1")
			c.must(err)
			if got := known.record.GetCordon() != nil; got != test.cordoned || test.cordoned != (len(rollout.GetProblems()) == 1) {
				t.Errorf("cordon %v, problems %v", known.record.GetCordon(), rollout.GetProblems())
			}
			c.allRun()
			if c.hosts["h1"].patcher.count("reboot") != 0 || c.hosts["h2"].patcher.count("apply") != 0 {
				t.Error("the rollout went on")
			}
			_, err = c.rollouts.ResumeRollout(t.Context(), connect.NewRequest(&drydockv1.ResumeRolloutRequest{Id: id}))
			c.refused(err, "it is aborted")
			if _, err := c.admin.ResumeHost(t.Context(), connect.NewRequest(&drydockv1.ResumeHostRequest{Name: "h1"})); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAPoolHasOneRolloutAtATimeAndItsCordonsAreItsOwn(t *testing.T) {
	c := newCluster(t, plainPool)
	arrived, goOn := c.hosts["h1"].patcher.holds("apply")
	id := c.mustStart("web")
	<-arrived
	_, err := c.start("web")
	c.refused(err, "rollout "+id+" of this pool has not ended")
	_, err = c.admin.ResumeHost(t.Context(), connect.NewRequest(&drydockv1.ResumeHostRequest{Name: "h1"}))
	c.refused(err, "rollout "+id+" patches it")
	_, _, err = c.drain("h1", false)
	c.refused(err, "rollout "+id+" patches it")
	_, _, err = c.lab.move(t.Context(), "h2a", "h1", false)
	c.refused(err, "host h1 is cordoned")
	close(goOn)
	c.rests(id, rolloutFinished)
}

func TestAHostThatAnOperatorHasCordonedIsLeftOut(t *testing.T) {
	c := newCluster(t, plainPool)
	_, _, err := c.drain("h1", false)
	c.must(err)
	planned, err := c.rollouts.PlanPool(t.Context(), connect.NewRequest(&drydockv1.PlanPoolRequest{Pool: "web"}))
	c.must(err)
	rounds := planned.Msg.GetPlan().GetRounds()
	first, last := rounds[0].GetHosts()[0].GetHost(), rounds[1].GetHosts()[0].GetHost()
	arrived, goOn := c.hosts[first].patcher.holds("apply")
	id := c.mustStart("web")
	<-arrived
	// And one that is cordoned while the rollout runs.
	c.must(c.cordon(t.Context(), last, "admin", nil))
	close(goOn)
	rollout := c.rests(id, rolloutFinished)
	if rollout.GetHostsPatched() != 1 || rollout.GetHostsFailed() != 0 || c.hosts["h1"].patcher.count("apply")+c.hosts[last].patcher.count("apply") != 0 {
		t.Errorf("got %v", rollout)
	}
	for name, owner := range map[string]string{"h1": fmt.Sprint("uid ", os.Getuid()), last: "admin"} {
		if known, err := c.host(t.Context(), name); err != nil || known.record.GetCordon().GetOwner() != owner {
			t.Errorf("%s: %v, %v", name, known.record.GetCordon(), err)
		}
	}
}

func TestAPoolOfWhichNoHostCanTakePartIsRefused(t *testing.T) {
	c := newCluster(t, plainPool)
	for name := range c.hosts {
		c.must(c.cordon(t.Context(), name, "admin", nil))
	}
	_, err := c.start("web")
	c.refused(err, "host h1 is cordoned", "host h2 is cordoned", "host h3 is cordoned")
}

func TestAHostThatIsCordonedInTheMiddleOfARoundKeepsItsPods(t *testing.T) {
	c := newCluster(t, "name: web\nhosts: {names: [h1, h2, h3]}\nsoak: {host: 0s}\nat-once: {canaries: 0, hosts: 2}\n")
	planned, err := c.rollouts.PlanPool(t.Context(), connect.NewRequest(&drydockv1.PlanPoolRequest{Pool: "web"}))
	c.must(err)
	left := planned.Msg.GetPlan().GetRounds()[0].GetHosts()[0].GetHost()
	arrived, goOn := c.hosts[left].patcher.holds("occupy")
	id := c.mustStart("web")
	<-arrived
	c.must(c.cordon(t.Context(), left, "admin", nil))
	close(goOn)
	rollout := c.rests(id, rolloutFinished)
	if rollout.GetHostsPatched() != 2 || !c.hosts[left].runs(left+"a") || !c.hosts[left].runs(left+"b") {
		t.Errorf("got %v", rollout)
	}
	c.allRun()
}

func TestARolloutWaitsForAManualGateAndForWindows(t *testing.T) {
	// A Saturday; the window is on the night to Sunday.
	k := clockAt(time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC))
	c := newCluster(t, plainPool+"windows: [{days: [sat], from: \"22:00\", to: \"02:00\", min-left: 1h}]\n"+
		"gates: [{name: look, at: [start], manual: have a look}]\n", timed(k))
	id := c.mustStart("web")
	waits := func(text string) {
		c.Helper()
		c.eventually("the rollout waits: "+text, func() bool {
			got := c.get(id)
			return got.GetState() == rolloutWaiting && strings.Contains(got.GetReason(), text)
		})
	}
	waits("have a look")
	_, err := c.rollouts.ApproveGate(t.Context(), connect.NewRequest(&drydockv1.ApproveGateRequest{Rollout: id, Gate: "lock"}))
	c.refused(err, "no manual gate of this name")
	_, err = c.rollouts.ApproveGate(t.Context(), connect.NewRequest(&drydockv1.ApproveGateRequest{Rollout: id, Gate: "look"}))
	c.must(err)
	waits("the window is closed until Sat 2026-11-21 22:00")
	if until := c.get(id).GetUntil().AsTime(); !until.Equal(time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)) {
		t.Errorf("until %s", until)
	}
	arrived, goOn := c.hosts["h1"].patcher.holds("apply")
	k.forward(2*time.Hour + time.Minute)
	<-arrived
	k.forward(4 * time.Hour) // the window closes while h1 is being patched
	close(goOn)
	waits("the window is closed until Sat 2026-11-28 22:00")
	if c.hosts["h1"].patcher.count("reboot") != 1 || c.hosts["h2"].patcher.count("apply") != 0 {
		t.Error("h1 is not finished, or h2 was begun")
	}
	c.allRun()
	k.forward(7*24*time.Hour - 4*time.Hour)
	c.rests(id, rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
}

func TestAGateThatStaysRedStopsTheRollout(t *testing.T) {
	k := clockAt(time.Now())
	c := newCluster(t, plainPool+"gates: [{name: room, cel: \"host.name != 'h1' || host.info.memory_available_bytes > 5\", patience: 30m}]\n", timed(k))
	c.hosts["h1"].set(func() { c.hosts["h1"].memory = 4 })
	c.eventually("h1 has no room", func() bool {
		known, err := c.host(t.Context(), "h1")
		return err == nil && known.report.GetInfo().GetMemoryAvailableBytes() == 4
	})
	id := c.mustStart("web")
	c.eventually("the gate is red", func() bool { return c.get(id).GetRedSince() != nil })
	k.forward(31 * time.Minute)
	rollout := c.rests(id, rolloutStopped)
	if len(rollout.GetProblems()) != 1 || !strings.Contains(rollout.GetProblems()[0].GetReason(), "gate room, host h1") {
		t.Errorf("problems: %v", rollout.GetProblems())
	}
	c.hosts["h1"].set(func() { c.hosts["h1"].memory = 1 << 30 })
	c.resume(id)
	c.rests(id, rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
}

func TestAPoolIsPatchedByItselfOnceInAWindowAndNotMoreOftenThanMinPeriod(t *testing.T) {
	k := clockAt(time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC))
	c := newCluster(t, plainPool+"schedule: window\nmin-period: 8d\nwindows: [{from: \"22:00\", to: \"05:00\"}]\n", timed(k))
	count := func() int {
		rollouts, err := c.Controller.rollouts.List(t.Context(), "web", 0)
		c.must(err)
		return len(rollouts)
	}
	if count() != 0 {
		t.Fatal("a rollout has started before the window opened")
	}
	k.forward(2*time.Hour + time.Minute)
	c.eventually("a rollout has started", func() bool { return count() == 1 })
	first, err := c.Controller.rollouts.List(t.Context(), "web", 0)
	c.must(err)
	c.rests(first[0].GetId(), rolloutFinished)
	if first[0].GetStartedBy() != rollout.Scheduler {
		t.Errorf("started by %s", first[0].GetStartedBy())
	}
	k.forward(24 * time.Hour)
	p, _, _, err := c.pools.Get("web")
	c.must(err)
	term, err := forRollouts{c.Controller}.Lead(t.Context())
	c.must(err)
	if due, err := c.Controller.rollouts.Due(t.Context(), term, p); err != nil || due {
		t.Errorf("the next rollout comes before min-period is over: %v", err)
	}
	_, err = c.start("web")
	c.refused(err, "`min-period` is 192h0m0s")
	k.forward(7 * 24 * time.Hour)
	for _, h := range c.hosts {
		h.patcher.with(func() { clear(h.patcher.steps) })
	}
	c.eventually("the next rollout has started", func() bool { return count() == 2 })
}
