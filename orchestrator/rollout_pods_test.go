package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/plan/wire"
	"drydock/orchestrator/refusal"
)

// refuses has a host refuse to move a pod, wherever to.
func (h *fakeHost) refusesToMove(pod string) {
	h.mu.Lock()
	inner := h.migrate
	h.mu.Unlock()
	h.set(func() {
		h.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			if spec.GetPod() != pod {
				return inner(ctx, spec, send)
			}
			report := reportEvent(spec, refusedTo)
			report.GetReport().Refusals = []*drydockv1.Refusal{because("pod "+pod+" uses io_uring", "deny it")}
			return send(report)
		}
	})
}

func TestAPodThatCannotMoveBlocksThePoolOrIsStoppedMeanwhile(t *testing.T) {
	c := newCluster(t, plainPool)
	c.hosts["h1"].refusesToMove("h1a")
	_, err := c.start("web")
	c.refused(err, "pod h1a on h1: pod h1a uses io_uring")
	c.write("web", plainPool+"pods: {cannot-move: stop, return: always}\n")
	rollout := c.rests(c.mustStart("web"), rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
	if own := c.owner("h1a"); own.Owner.Host != "h1" || c.hosts["h1"].started["h1a"] != 2 {
		t.Errorf("pod h1a is on %s, started %d times there", own.Owner.Host, c.hosts["h1"].started["h1a"])
	}
	for _, pod := range []string{"h1b", "h2a", "h3b"} {
		if own := c.owner(pod); own.Owner.Host != pod[:2] {
			t.Errorf("pod %s did not return: it is on %s", pod, own.Owner.Host)
		}
	}
	for _, h := range rollout.GetHosts() {
		if len(h.GetStoppedPods()) != 0 {
			t.Errorf("host %s still has stopped pods: %v", h.GetHost(), h.GetStoppedPods())
		}
	}
}

func TestAPodThatIsStoppedForARolloutRunsElsewhereWhereItHasNoFiles(t *testing.T) {
	c := newCluster(t, plainPool+"pods: {cannot-move: stop, return: never}\n")
	for _, h := range c.hosts {
		h.refusesToMove("h1a")
	}
	c.rests(c.mustStart("web"), rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
}

func TestPodsThatCameMeanwhileAreMovedToo(t *testing.T) {
	c := newCluster(t, plainPool)
	planned, err := c.rollouts.PlanPool(t.Context(), connect.NewRequest(&drydockv1.PlanPoolRequest{Pool: "web"}))
	c.must(err)
	rounds := planned.Msg.GetPlan().GetRounds()
	first, second := rounds[0].GetHosts()[0].GetHost(), rounds[1].GetHosts()[0].GetHost()
	arrived, goOn := c.hosts[first].patcher.holds("apply")
	id := c.mustStart("web")
	<-arrived
	c.mustRun("late", second)
	close(goOn)
	rollout := c.rests(id, rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
	if !slices.ContainsFunc(rollout.GetMoves(), func(m *drydockv1.RolloutMove) bool { return m.GetPod() == "late" && m.GetFrom() == second }) {
		t.Errorf("pod late was not moved: %v", rollout.GetMoves())
	}
	if !slices.ContainsFunc(rollout.GetSteps(), func(s *drydockv1.RolloutStep) bool { return s.GetName() == "plan anew" }) {
		t.Error("it was not planned anew")
	}
}

func TestMovesThatAreAbortedStopTheRolloutWhenTheyAreTooMany(t *testing.T) {
	c := newCluster(t, plainPool+"error-budget: {moves: 1}\n")
	var mu sync.Mutex
	broken := true
	for _, h := range c.hosts {
		h.mu.Lock()
		inner := h.migrate
		h.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			mu.Lock()
			fails := broken && !spec.GetDryRun()
			mu.Unlock()
			if fails {
				report := reportEvent(spec, drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED)
				report.GetReport().Error = "the dump failed"
				return send(report)
			}
			return inner(ctx, spec, send)
		}
		h.mu.Unlock()
	}
	id := c.mustStart("web")
	rollout := c.rests(id, rolloutStopped)
	if !strings.Contains(rollout.GetReason(), "moves were aborted") || rollout.GetFailedMoves() < 2 {
		t.Errorf("got %s, %d moves", rollout.GetReason(), rollout.GetFailedMoves())
	}
	c.allRun()
	mu.Lock()
	broken = false
	mu.Unlock()
	c.resume(id)
	c.rests(id, rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
}

func TestAMoveThatIsRefusedOnlyForAMomentIsAskedForAgain(t *testing.T) {
	c := newCluster(t, plainPool)
	var mu sync.Mutex
	refusals := map[string]int{"h1a": 3, "h2b": 3}
	for _, h := range c.hosts {
		h.mu.Lock()
		inner := h.migrate
		h.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			mu.Lock()
			left := refusals[spec.GetPod()]
			if left > 0 && !spec.GetDryRun() {
				refusals[spec.GetPod()]--
			}
			mu.Unlock()
			if left > 0 && !spec.GetDryRun() {
				report := reportEvent(spec, refusedTo)
				report.GetReport().Refusals = []*drydockv1.Refusal{because("host "+spec.GetTo()+" does not answer", "bring its agent up")}
				return send(report)
			}
			return inner(ctx, spec, send)
		}
		h.mu.Unlock()
	}
	rollout := c.rests(c.mustStart("web"), rolloutFinished)
	if rollout.GetHostsFailed() != 0 || refusals["h1a"] != 0 || refusals["h2b"] != 0 {
		t.Errorf("%d hosts failed, %v", rollout.GetHostsFailed(), refusals)
	}
	c.patched(1, "h1", "h2", "h3")
}

func TestHostsThatNeedNoRestartArePatchedUnderTheirPods(t *testing.T) {
	l := newLab(t, patient)
	c := clusterOn(l, "name: web\nhosts: {names: [h1, h2, h3]}\nsoak: {host: 0s}\nat-once: {canaries: 0, hosts: 2}\npatch: {without-drain: true}\n", false)
	rollout := c.rests(c.mustStart("web"), rolloutFinished)
	c.patched(0, "h1", "h2", "h3")
	if len(rollout.GetMoves()) != 0 || len(rollout.GetPlan()) != 2 {
		t.Errorf("got %v", rollout)
	}
}

func TestAHostThatCannotSayWhatItLacksBlocksThePoolUnlessTheBudgetAllowsIt(t *testing.T) {
	c := newCluster(t, plainPool)
	c.hosts["h2"].patcher.failsAt("resolve", nil)
	_, err := c.start("web")
	c.refused(err, "host h2: resolve is broken")
	c.write("web", plainPool+"error-budget: {hosts: 1}\n")
	rollout := c.rests(c.mustStart("web"), rolloutFinished)
	if len(rollout.GetSkipped()) != 1 || rollout.GetHostsPatched() != 2 {
		t.Errorf("got %v", rollout)
	}
	c.patched(1, "h1", "h3")
	if _, err := c.start("nothing"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("got %v", err)
	}
}

// Two pools at once, and an operator who moves their pods: each move is made, or refused with a reason, and both rollouts end.
func TestTwoRolloutsAndManualMigrationsWantTheSamePods(t *testing.T) {
	l := newLab(t, patient)
	c := &cluster{lab: l, hosts: map[string]*fakeHost{}}
	names := []string{"h1", "h2", "h3", "h4"}
	all := l.joinAll(names...)
	l.image("h1")
	for _, h := range all {
		h.set(func() { h.labels = map[string]string{"pool": map[bool]string{true: "a", false: "b"}[h.name < "h3"]} })
		c.hosts[h.name] = h
		h.patcher.lacks(true)
		h.moves(all...)
		l.mustRun(h.name+"a", h.name)
		l.mustRun(h.name+"b", h.name)
	}
	for _, name := range []string{"a", "b"} {
		c.write(name, fmt.Sprintf("name: %[1]s\nhosts: {labels: {pool: %[1]s}}\nsoak: {host: 0s}\nat-once: {canaries: 0}\n", name))
	}
	c.eventually("labels are known", func() bool {
		response, err := c.rollouts.ListPools(t.Context(), connect.NewRequest(&drydockv1.ListPoolsRequest{}))
		return err == nil && len(response.Msg.GetPools()) == 2 && len(response.Msg.GetPools()[0].GetHosts()) == 2 && len(response.Msg.GetPools()[1].GetHosts()) == 2
	})
	ids := []string{c.mustStart("a"), c.mustStart("b")}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for i, pod := range []string{"h1a", "h2b", "h3a", "h4b"} {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, report, err := l.move(ctx, pod, names[(n+i)%len(names)], false)
				switch {
				case ctx.Err() != nil:
				case err != nil && len(refusal.Of(err)) == 0:
					t.Errorf("pod %s: refused without a reason: %v", pod, err)
				case err == nil && report.GetOutcome() != committed:
					t.Errorf("pod %s: %v", pod, report)
				}
			}
		})
	}
	for _, id := range ids {
		c.rests(id, rolloutFinished)
	}
	cancel()
	group.Wait()
	c.eventually("every move has ended", func() bool {
		pods, err := c.listPods(t.Context(), "")
		return err == nil && !slices.ContainsFunc(pods, func(p *drydockv1.Pod) bool { return p.GetPhase() != phaseRunning })
	})
	c.patched(1, names...)
}

func TestWebhooksAreToldOfEventsAndMetricsShowRollouts(t *testing.T) {
	var mu sync.Mutex
	var events []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n struct{ Event, Host string }
		_ = json.NewDecoder(r.Body).Decode(&n)
		mu.Lock()
		defer mu.Unlock()
		events = append(events, n.Event+" "+n.Host)
	}))
	defer server.Close()
	c := newCluster(t, plainPool+"notify: [{url: \""+server.URL+"\", events: [started, host-patched, stopped, finished]}]\n")
	c.rests(c.mustStart("web"), rolloutFinished)
	c.eventually("all events are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(events)
		return fmt.Sprint(events) == "[finished  host-patched h1 host-patched h2 host-patched h3 started ]"
	})
	metrics := httptest.NewServer(c.metrics())
	defer metrics.Close()
	response, err := http.Get(metrics.URL)
	c.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	c.must(err)
	for _, line := range []string{
		`drydock_rollouts{pool="web",state="finished"} 1`, `drydock_rollout_hosts{pool="web",state="patched"} 3`, `drydock_pool_faults 0`,
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

// told keeps what hosts are told about the moves of pods.
func (c *cluster) told() func() []*drydockv1.MigrationSpec {
	var mu sync.Mutex
	var specs []*drydockv1.MigrationSpec
	for _, h := range c.hosts {
		h.mu.Lock()
		inner := h.migrate
		h.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			if !spec.GetDryRun() {
				mu.Lock()
				specs = append(specs, spec)
				mu.Unlock()
			}
			return inner(ctx, spec, send)
		}
		h.mu.Unlock()
	}
	return func() []*drydockv1.MigrationSpec {
		mu.Lock()
		defer mu.Unlock()
		return specs
	}
}

func TestHostsChooseAMovesModeOfThoseThatPoolAndPodAllow(t *testing.T) {
	auto := drydockv1.MigrationMode_MIGRATION_MODE_AUTO
	stop, precopy := wire.Mode(plan.Stop), wire.Mode(plan.Precopy)
	for modes, want := range map[string]*drydockv1.MigrationSpec{
		"[precopy, stop]":           {Mode: auto, Modes: []drydockv1.MigrationMode{stop, precopy}},
		"[precopy, stop, postcopy]": {Mode: auto, Modes: []drydockv1.MigrationMode{stop, precopy}}, // the pods do not allow it
		"[stop]":                    {Mode: stop, Modes: []drydockv1.MigrationMode{stop}},
	} {
		t.Run(modes, func(t *testing.T) {
			c := newCluster(t, plainPool+"pods: {modes: "+modes+", downtime-budget: 700ms}\n")
			told := c.told()
			c.rests(c.mustStart("web"), rolloutFinished)
			for _, spec := range told() {
				if spec.GetMode() != want.GetMode() || !slices.Equal(spec.GetModes(), want.GetModes()) || spec.GetAllowPostcopy() || spec.GetDowntimeBudget().AsDuration() != 700*time.Millisecond {
					t.Errorf("got %v", spec)
				}
			}
			if len(told()) < 6 {
				t.Errorf("%d moves", len(told()))
			}
		})
	}
}

func TestPodsWithAffinityToAHostGoBackThereAndOthersStay(t *testing.T) {
	c := newCluster(t, plainPool)
	home, err := c.runSpec(&drydockv1.PodSpec{Name: "home", Affinity: "h2", Containers: []*drydockv1.Container{{Image: "redis:7"}}}, "")
	c.must(err)
	if home.GetHost() != "h2" {
		t.Errorf("it was started on %s", home.GetHost())
	}
	c.rests(c.mustStart("web"), rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
	if own := c.owner("home"); own.Owner.Host != "h2" {
		t.Errorf("pod home is on %s", own.Owner.Host)
	}
}
