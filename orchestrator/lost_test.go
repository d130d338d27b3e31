package orchestrator

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
)

func (l *lab) unreachable(h *fakeHost) {
	l.Helper()
	h.set(func() { h.silent = true })
	l.eventually(h.name+" is unreachable", func() bool {
		view, err := l.host(l.Context(), h.name)
		return err == nil && view.state == hostUnreachable
	})
}

func (l *lab) confirmDead(name, boot string) error {
	_, err := l.admin.ConfirmHostDead(l.Context(), connect.NewRequest(&drydockv1.ConfirmHostDeadRequest{Name: name, BootId: boot}))
	return err
}

func TestAPodOfASilentHostIsUnknownAndStartsNowhereElse(t *testing.T) {
	l, h1, h2 := pair(t)
	l.unreachable(h1)
	if pod := l.view("web"); pod.GetPhase() != phaseUnknown || pod.GetMessage() == "" {
		t.Errorf("got %v", pod)
	}
	before := l.owner("web")
	time.Sleep(200 * time.Millisecond)
	if after := l.owner("web"); after != before || h2.runs("web") {
		t.Errorf("owner went from %v to %v", before, after)
	}
	_, err := l.admin.StopPod(t.Context(), connect.NewRequest(&drydockv1.StopPodRequest{Name: "web"}))
	l.refused(err, "host h1 is unreachable")
	_, err = l.admin.RemovePod(t.Context(), connect.NewRequest(&drydockv1.RemovePodRequest{Name: "web", Force: true}))
	l.refused(err, "host h1 is unreachable")
	h1.set(func() { h1.silent = false })
	l.eventually("it is seen to run", func() bool { return l.view("web").GetPhase() == phaseRunning })
	if h1.started["web"] != 1 {
		t.Errorf("started %d times", h1.started["web"])
	}
}

func TestAConfirmedDeadHostsPodsStartElsewhereOrWaitAsTheyAsk(t *testing.T) {
	l, h1, h2 := pair(t)
	_, err := l.runSpec(&drydockv1.PodSpec{
		Name: "patient", OnHostLost: drydockv1.OnHostLost_ON_HOST_LOST_WAIT, Containers: []*drydockv1.Container{{Image: "redis:7"}},
	}, "h1")
	l.must(err)
	l.refused(l.confirmDead("h1", h1.boot), "it is ready and reports")
	address := l.view("web").GetSpec().GetAddresses()[0]
	l.unreachable(h1)
	l.refused(l.confirmDead("h1", "another boot"), "its boot id is h1-boot-1")
	l.must(l.confirmDead("h1", h1.boot))
	l.eventually("web runs on h2", func() bool { return h2.runs("web") && l.view("web").GetPhase() == phaseRunning })
	if pod := l.view("web"); pod.GetHost() != "h2" || pod.GetSpec().GetAddresses()[0] != address {
		t.Errorf("got %v", pod)
	}
	l.eventually("patient waits", func() bool {
		return l.owner("patient").State == owner.Lost && l.view("patient").GetPhase() == phaseLost
	})
	if h2.runs("patient") {
		t.Error("patient did not wait")
	}
	_, err = l.admin.StartPod(t.Context(), connect.NewRequest(&drydockv1.StartPodRequest{Name: "patient"}))
	l.must(err)
	if !h2.runs("patient") {
		t.Error("an operator's start was not obeyed")
	}
	// The host was not dead after all: it learns that its copies are others' now, and takes no part until it has booted.
	h1.set(func() { h1.silent = false })
	l.eventually("h1 has cleaned up", func() bool { return !h1.runs("web") && !h1.runs("patient") })
	_, err = l.run("new", "h1")
	l.refused(err, "host h1 is dead")
	h1.set(func() { h1.boot = "h1-boot-2" })
	l.eventually("h1 is ready", func() bool { h, err := l.host(t.Context(), "h1"); return err == nil && h.state == hostReady })
}

func TestAHostThatBootedStartsItsPodsAnew(t *testing.T) {
	l, h1, h2 := pair(t)
	_, err := l.runSpec(&drydockv1.PodSpec{
		Name: "once", RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER, Containers: []*drydockv1.Container{{Image: "redis:7"}},
	}, "h1")
	l.must(err)
	epoch := l.owner("web").Epoch
	h1.set(func() {
		h1.boot = "h1-boot-2"
		clear(h1.pods)
	})
	l.eventually("web runs again", func() bool { return h1.runs("web") && l.owner("web").Settled })
	record := l.owner("web")
	if record.Owner != (owner.Place{Host: "h1", BootID: "h1-boot-2"}) || record.Epoch <= epoch || h2.runs("web") {
		t.Errorf("got %v", record)
	}
	l.eventually("once is lost", func() bool { return l.owner("once").State == owner.Lost })
	if h1.runs("once") {
		t.Error("started against its policy")
	}
}

func TestAHostThatBootedAndThenDiedIsDeadForItsEarlierBootsToo(t *testing.T) {
	l, h1, h2 := pair(t)
	// The host boots and reports, but its agent answers nothing, and then it is gone.
	l.must(h1.server.Close())
	old := h1.boot
	h1.set(func() { h1.boot = "h1-boot-2" })
	l.eventually("the boot is known", func() bool {
		h, err := l.host(t.Context(), "h1")
		return err == nil && h.record.GetBootId() == "h1-boot-2"
	})
	_, err := h1.coord.Report(t.Context(), connect.NewRequest(&drydockv1.ReportRequest{BootId: old}))
	l.refused(err, "boot h1-boot-1 is over")
	l.unreachable(h1)
	if record := l.owner("web"); record.State != owner.Running {
		t.Fatalf("taken over without proof: %v", record)
	}
	l.must(l.confirmDead("h1", "h1-boot-2"))
	l.eventually("web runs on h2", func() bool { return h2.runs("web") })
}

func TestAMigrationToAHostThatDiedIsAborted(t *testing.T) {
	l, h1, h2 := pair(t)
	begun := make(chan struct{})
	arrived, goOn := h1.held(h2)
	inner := h1.migrate
	h1.set(func() {
		h1.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			if err := h1.begin(ctx, spec, h2.boot); err != nil {
				return err
			}
			select {
			case <-begun:
			default:
				close(begun)
			}
			return inner(ctx, spec, send)
		}
	})
	moved := make(chan *drydockv1.MigrationReport, 1)
	go func() {
		_, report, _ := l.move(l.Context(), "web", "h2", false)
		moved <- report
	}()
	<-begun
	<-arrived
	h2.set(func() { h2.boot = "h2-boot-2" })
	l.eventually("it is aborted", func() bool { return l.owner("web").Outcome == owner.Abort })
	if record := l.owner("web"); record.Owner.Host != "h1" {
		t.Errorf("got %v", record)
	}
	close(goOn)
	<-moved
}

func TestASourceThatDiedInAnUndecidedMigrationLeavesTheDecisionToTheDestination(t *testing.T) {
	l, h1, h2 := pair(t)
	spec := make(chan *drydockv1.MigrationSpec, 10)
	h1.set(func() {
		h1.migrate = func(ctx context.Context, s *drydockv1.MigrationSpec, _ func(*drydockv1.MigratePodResponse) error) error {
			if err := h1.begin(ctx, s, h2.boot); err != nil {
				return err
			}
			spec <- s
			<-ctx.Done()
			return ctx.Err()
		}
	})
	moved := make(chan *drydockv1.MigrationReport, 1)
	go func() {
		_, report, _ := l.move(l.Context(), "web", "h2", false)
		moved <- report
	}()
	order := <-spec
	h1.set(func() { h1.silent = true })
	_ = h1.server.Close()
	l.unreachable(h1)
	l.must(l.confirmDead("h1", h1.boot))
	time.Sleep(200 * time.Millisecond)
	if record := l.owner("web"); record.State != owner.Moving {
		t.Fatalf("decided without the destination: %v", record)
	}
	l.must(h2.decide(t.Context(), order))
	if report := <-moved; report.GetOutcome() != committed {
		t.Errorf("got %v", report)
	}
	if pod := l.view("web"); pod.GetHost() != "h2" || pod.GetPhase() != phaseRunning || pod.GetMigration() != "" {
		t.Errorf("got %v", pod)
	}
}

func TestARemovedPodsRemainsGoWhenItsDeadHostIsBack(t *testing.T) {
	l, h1, _ := pair(t)
	_, err := l.runSpec(&drydockv1.PodSpec{
		Name: "patient", OnHostLost: drydockv1.OnHostLost_ON_HOST_LOST_WAIT, Containers: []*drydockv1.Container{{Image: "redis:7"}},
	}, "h1")
	l.must(err)
	l.unreachable(h1)
	l.must(l.confirmDead("h1", h1.boot))
	l.eventually("patient is lost", func() bool { return l.owner("patient").State == owner.Lost })
	_, err = l.admin.RemovePod(t.Context(), connect.NewRequest(&drydockv1.RemovePodRequest{Name: "patient"}))
	l.must(err)
	h1.set(func() { h1.silent, h1.boot = false, "h1-boot-2" })
	l.eventually("its remains are gone", func() bool { h1.mu.Lock(); defer h1.mu.Unlock(); return !h1.remains["patient"] })
}

func TestRestartsOfAPodThatEndsAgainAndAgainGetRarer(t *testing.T) {
	var tr troubles
	now := time.Now()
	var pauses []time.Duration
	for range 9 {
		start := now
		for !tr.due("web", now) {
			now = now.Add(100 * time.Millisecond)
		}
		pauses = append(pauses, now.Sub(start))
	}
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60} {
		if pauses[i] != want*time.Second {
			t.Errorf("pause %d is %s, want %ds", i, pauses[i], want)
		}
	}
	if !tr.due("web", now.Add(calm+time.Second)) {
		t.Error("not forgiven after a calm time")
	}
}
