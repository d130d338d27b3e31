package demo

import (
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
)

// crossed is a run in which all went well.
func crossed() *crossing {
	c := &crossing{}
	c.rollout = &drydockv1.Rollout{State: drydockv1.RolloutState_ROLLOUT_STATE_FINISHED}
	for _, host := range route[:realHosts] {
		c.rollout.Hosts = append(c.rollout.Hosts, &drydockv1.RolloutHost{Host: host, RebootKind: "real"})
		c.report.Hosts = append(c.report.Hosts, RealHost{host, "6.1", "6.2", "one", "two", 3})
	}
	for _, a := range realApps() {
		c.report.Pods = append(c.report.Pods, RealPod{Name: a.name, Moves: 2, ConnectionsBefore: 4, AckedWrites: 100})
	}
	return c
}

func TestMachinesThatWerePatchedUnderTheirPodsPass(t *testing.T) {
	if err := crossed().verdict(); err != nil {
		t.Error(err)
	}
	if pods := len(realApps()); pods != 3 {
		t.Errorf("there are %d pods", pods)
	}
}

func TestWhateverIsLostOnMachinesFailsTheDemo(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*crossing)
		says string
	}{
		"the kernel":        {func(c *crossing) { c.report.Hosts[0].KernelAfter = "6.1" }, "h1 runs kernel 6.1 as before"},
		"the boot":          {func(c *crossing) { c.report.Hosts[1].BootAfter = "one" }, "h2 was not rebooted"},
		"no package":        {func(c *crossing) { c.report.Hosts[1].Packages = 0 }, "h2 was given no package"},
		"a host":            {func(c *crossing) { c.report.Hosts = c.report.Hosts[1:] }, "1 of 2 hosts were patched"},
		"a pod":             {func(c *crossing) { c.report.Pods = c.report.Pods[1:] }, "2 of 3 pods"},
		"no move":           {func(c *crossing) { c.report.Pods[0].Moves = 0 }, "did not move"},
		"no connection":     {func(c *crossing) { c.report.Pods[0].ConnectionsBefore = 0 }, "no connection to keep"},
		"a connection":      {func(c *crossing) { c.report.Pods[0].ConnectionsLost = 1 }, "1 connections"},
		"a write":           {func(c *crossing) { c.report.Pods[1].WritesLost = 2 }, "2 acknowledged writes were lost"},
		"a transaction":     {func(c *crossing) { c.report.Pods[1].FailedTransactions = 1 }, "1 transactions failed"},
		"a clock":           {func(c *crossing) { c.report.Pods[2].ClockStepsBack = 1 }, "clocks went back 1 times"},
		"an error":          {func(c *crossing) { c.fault("redis: 1 errors") }, "redis: 1 errors"},
		"the rollout":       {func(c *crossing) { c.rollout = nil }, "is not finished"},
		"a reboot in words": {func(c *crossing) { c.rollout.Hosts[0].RebootKind = "simulated" }, `reported as "simulated"`},
	} {
		t.Run(name, func(t *testing.T) {
			run := crossed()
			c.harm(run)
			if err := run.verdict(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}
