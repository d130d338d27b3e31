package orchestrator

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

// failsAt has a host fail at a step: by an answer, or by an error.
func (f *fakePatcher) failsAt(step string, err error) {
	f.with(func() {
		f.fails = func(at string) (*drydockv1.Refusal, error) {
			if at != step {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			return because(step+" is broken", "mend it"), nil
		}
	})
}

func TestAHostThatFailsStopsTheRolloutKeepsPodsRunningAndIsTriedAgain(t *testing.T) {
	broken := connect.NewError(connect.CodeFailedPrecondition, errors.New("it is broken: mend it"))
	for step, test := range map[string]struct {
		err      error
		cordoned bool
		reason   string
	}{
		"download": {err: broken, reason: "download"},
		"occupy":   {err: broken, reason: "occupy"},
		"hook":     {reason: "exit status 3"},
		"apply":    {cordoned: true, reason: "apply is broken"},
		"reboot":   {cordoned: true, reason: "reboot is broken"},
		"verify":   {cordoned: true, reason: "verify is broken"},
	} {
		t.Run(step, func(t *testing.T) {
			c := newCluster(t, plainPool+"hooks:\n  before-host: [{command: [/bin/backup], run: host}]\n")
			first := c.hosts["h1"].patcher
			first.failsAt(step, test.err)
			id := c.mustStart("web")
			rollout := c.rests(id, rolloutStopped)
			problems := rollout.GetProblems()
			if len(problems) != 1 || !strings.Contains(problems[0].GetReason(), "host h1") || !strings.Contains(problems[0].GetReason(), test.reason) || problems[0].GetRemedy() == "" {
				t.Fatalf("problems: %v", problems)
			}
			c.allRun()
			for _, name := range []string{"h2", "h3"} {
				if c.hosts[name].patcher.count("apply") != 0 {
					t.Errorf("host %s was patched after h1 had failed", name)
				}
			}
			known, err := c.host(t.Context(), "h1")
			c.must(err)
			if cordon := known.record.GetCordon(); (cordon != nil) != test.cordoned || test.cordoned && (cordon.GetOwner() != rolloutOwner+id || cordon.GetReason() == "") {
				t.Errorf("cordon: %v", cordon)
			}
			first.with(func() { first.fails = nil })
			c.resume(id)
			c.rests(id, rolloutFinished)
			c.patched(1, "h1", "h2", "h3")
			if first.count("download") == 0 {
				t.Error("h1 was patched without a download")
			}
		})
	}
}

func (c *cluster) resume(id string) {
	c.Helper()
	_, err := c.rollouts.ResumeRollout(c.Context(), connect.NewRequest(&drydockv1.ResumeRolloutRequest{Id: id}))
	c.must(err)
}

func TestTheErrorBudgetLetsTheOthersBePatched(t *testing.T) {
	c := newCluster(t, plainPool+"error-budget: {hosts: 1}\n")
	c.hosts["h1"].patcher.failsAt("verify", nil)
	rollout := c.rests(c.mustStart("web"), rolloutFinished)
	if rollout.GetHostsPatched() != 2 || rollout.GetHostsFailed() != 1 || len(rollout.GetProblems()) != 1 {
		t.Errorf("got %v", rollout)
	}
	c.patched(1, "h2", "h3")
	if known, err := c.host(t.Context(), "h1"); err != nil || !strings.Contains(known.message, "verify is broken") {
		t.Errorf("h1 does not say why it is cordoned: %q, %v", known.message, err)
	}
	// The next rollout of the pool takes the cordon over.
	c.hosts["h1"].patcher.with(func() { c.hosts["h1"].patcher.fails = nil })
	for _, name := range []string{"h2", "h3"} {
		c.hosts[name].patcher.with(func() { c.hosts[name].patcher.patch = nil })
	}
	c.rests(c.mustStart("web"), rolloutFinished)
	if known, err := c.host(t.Context(), "h1"); err != nil || known.record.GetCordon() != nil {
		t.Errorf("h1 is still cordoned: %v, %v", known.record.GetCordon(), err)
	}
}

func TestAHostThatDoesNotComeBackIsFencedAndItsPodsAreSafe(t *testing.T) {
	k := clockAt(time.Now())
	marks := t.TempDir()
	c := newCluster(t, plainPool+"fence: {command: [/bin/touch, \""+marks+"/{host}\"]}\n", timed(k))
	first := c.hosts["h1"].patcher
	first.with(func() { first.away = true })
	id := c.mustStart("web")
	c.eventually("h1 is rebooted", func() bool { return first.count("reboot") == 1 })
	c.eventually("the rollout waits for h1", func() bool {
		return c.get(id).GetHosts()[0].GetDeadline() != nil && c.get(id).GetHosts()[0].GetStep() == "reboot"
	})
	if _, err := os.Stat(filepath.Join(marks, "h1")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("h1 is fenced at once:", err)
	}
	boot := c.get(id).GetHosts()[0].GetOldBootId()
	c.becomes("h1", hostUnreachable)
	k.forward(11 * time.Minute)
	rollout := c.rests(id, rolloutStopped)
	if _, err := os.Stat(filepath.Join(marks, "h1")); err != nil {
		t.Error("h1 is not fenced:", err)
	}
	if rollout.GetHosts()[0].GetFencedBootId() != boot || !strings.Contains(rollout.GetProblems()[0].GetReason(), "switched off") {
		t.Errorf("got %v", rollout)
	}
	if known, err := c.host(t.Context(), "h1"); err != nil || known.state != hostDead {
		t.Errorf("h1 is %s, %v", known.state, err)
	}
	c.allRun()
	// It is mended and boots: the rollout goes on without a second reboot.
	first.h.set(func() { first.h.silent = false })
	c.eventually("h1 is back", func() bool {
		known, err := c.host(t.Context(), "h1")
		return err == nil && known.record.GetBootId() != boot
	})
	c.resume(id)
	c.rests(id, rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
}

func TestAFenceThatFailsLeavesEverythingAsItIs(t *testing.T) {
	k := clockAt(time.Now())
	c := newCluster(t, plainPool+"fence: {command: [/bin/false, \"{host}\"]}\n", timed(k))
	first := c.hosts["h1"].patcher
	first.with(func() { first.away = true })
	id := c.mustStart("web")
	c.eventually("the rollout waits for h1", func() bool {
		return c.get(id).GetHosts()[0].GetStep() == "reboot" && c.get(id).GetHosts()[0].GetDeadline() != nil
	})
	c.becomes("h1", hostUnreachable)
	k.forward(11 * time.Minute)
	rollout := c.rests(id, rolloutStopped)
	if len(rollout.GetProblems()) != 2 || !strings.Contains(rollout.GetProblems()[1].GetRemedy(), "confirm-dead h1") {
		t.Errorf("problems: %v", rollout.GetProblems())
	}
	c.becomes("h1", hostUnreachable)
}

func TestWhereTheAnswerToARebootIsLostItsKindIsAskedForAgainAndNothingIsRebootedTwice(t *testing.T) {
	c := newCluster(t, plainPool)
	for _, h := range c.hosts {
		h.patcher.with(func() { h.patcher.mute = true })
	}
	rollout := c.rests(c.mustStart("web"), rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
	for _, h := range rollout.GetHosts() {
		if h.GetRebootKind() != "simulated" || h.GetBootId() == "" {
			t.Errorf("the reboot of %s is %q, its boot %q", h.GetHost(), h.GetRebootKind(), h.GetBootId())
		}
	}
}
