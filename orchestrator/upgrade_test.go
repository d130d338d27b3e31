package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/upgrade"
)

const (
	upgradeWaiting  = drydockv1.UpgradeState_UPGRADE_STATE_WAITING
	upgradePaused   = drydockv1.UpgradeState_UPGRADE_STATE_PAUSED
	upgradeStopped  = drydockv1.UpgradeState_UPGRADE_STATE_STOPPED
	upgradeFinished = drydockv1.UpgradeState_UPGRADE_STATE_FINISHED
	upgradeAborted  = drydockv1.UpgradeState_UPGRADE_STATE_ABORTED
)

const oneByOne = "{kind: rolling}"

func TestAServiceIsUpgradedPodByPod(t *testing.T) {
	l, h := newShop(t, oneByOne, "shop-0", "shop-1")
	address := l.view("shop-0").GetSpec().GetAddresses()[0]
	l.becomes(l.mustUpgradeTo("v2"), upgradeFinished)
	h.shows(t, "shop-0 v2 v2", "shop-1 v2 v2")
	if diff := cmp.Diff([]string{"/bin/up", "/bin/up"}, h.upgrades.commands); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	pod := l.view("shop-0")
	if pod.GetSpec().GetAddresses()[0] != address || pod.GetSpec().GetContainers()[0].GetImage() != "shop:2" || pod.GetPhase() != phaseRunning {
		t.Errorf("pod is %v", pod)
	}
	if len(h.upgrades.before) > 0 {
		t.Error("what the way back would need is kept")
	}
}

func TestAServiceGoesBackWhereTheRecordHasAWay(t *testing.T) {
	l, h := newShop(t, oneByOne, "shop-0")
	l.becomes(l.mustUpgradeTo("v2"), upgradeFinished)
	l.becomes(l.mustUpgradeTo("v1"), upgradeFinished)
	h.shows(t, "shop-0 v1 v1")
	l.becomes(l.mustUpgradeTo("v2"), upgradeFinished)
	l.becomes(l.mustUpgradeTo("v3"), upgradeFinished)
	_, err := l.upgradeTo("v2")
	l.refused(err, "no way back from v3 to v2")
}

func TestAnUpgradeThatCannotBeIsRefusedBeforeItBegins(t *testing.T) {
	l, _ := newShop(t, oneByOne, "shop-0", "shop-1")
	_, err := l.upgradeTo("v7")
	l.refused(err, "knows no version v7")
	_, err = l.upgradeTo("v3")
	l.refused(err, "is no neighbour of v3")
	_, err = l.upgradeTo("v2", "other")
	l.refused(err, "pod other is none of service shop")
	l.becomes(l.mustUpgradeTo("v2", "shop-0"), upgradeFinished)
	_, err = l.upgradeTo("v3")
	l.refused(err, "has v2, and pod shop-1 v1")
	_, err = l.upgrades.StartUpgrade(l.Context(), connect.NewRequest(&drydockv1.StartUpgradeRequest{Service: "shop", To: "v3", Pods: []string{"shop-0"}}))
	l.refused(err, "which image version v3 is run from")
	_, err = l.upgrades.StartUpgrade(l.Context(), connect.NewRequest(&drydockv1.StartUpgradeRequest{Service: "shop", To: "v3", Pods: []string{"shop-0"}, Image: "shop:9"}))
	l.refused(err, "image shop:9 is not known")
	if _, err := l.upgrades.StartUpgrade(l.Context(), connect.NewRequest(&drydockv1.StartUpgradeRequest{Service: "none", To: "v2"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
}

func TestAProgramThatFailsLeavesThePodAsItWas(t *testing.T) {
	l, h := newShop(t, oneByOne, "shop-0", "shop-1")
	h.set(func() { h.upgrades.broken = map[string]string{"shop:2": "/bin/up ended with status 1: no such column"} })
	id := l.mustUpgradeTo("v2")
	u := l.becomes(id, upgradeStopped)
	if len(u.GetProblems()) != 1 || !strings.Contains(u.GetProblems()[0].GetReason(), "pod shop-0, transform: ") || !strings.Contains(u.GetProblems()[0].GetReason(), "no such column") {
		t.Errorf("problems: %v", u.GetProblems())
	}
	h.shows(t, "shop-0 v1 v1", "shop-1 v1 v1")
	h.set(func() { h.upgrades.broken = nil })
	_, err := l.upgrades.ResumeUpgrade(l.Context(), connect.NewRequest(&drydockv1.ResumeUpgradeRequest{Id: id}))
	l.must(err)
	l.becomes(id, upgradeFinished)
	h.shows(t, "shop-0 v2 v2", "shop-1 v2 v2")
}

func TestAVersionThatIsNotHealthyIsTakenBack(t *testing.T) {
	l, h := newShop(t, oneByOne, "shop-0", "shop-1")
	h.set(func() { h.upgrades.sick = map[string]string{"shop:2": "probe was answered with 500"} })
	id := l.mustUpgradeTo("v2")
	u := l.becomes(id, upgradeStopped)
	if !strings.Contains(u.GetProblems()[0].GetReason(), "pod shop-0, health: ") {
		t.Errorf("problems: %v", u.GetProblems())
	}
	h.shows(t, "shop-0 v1 v1", "shop-1 v1 v1")
	if image := l.view("shop-0").GetSpec().GetContainers()[0].GetImage(); image != "shop:1" {
		t.Errorf("its record says %s", image)
	}
	_, err := l.upgrades.AbortUpgrade(l.Context(), connect.NewRequest(&drydockv1.AbortUpgradeRequest{Id: id}))
	l.must(err)
	l.becomes(id, upgradeAborted)
	_, err = l.admin.StopPod(l.Context(), connect.NewRequest(&drydockv1.StopPodRequest{Name: "shop-0"})) // nobody has it any more
	l.must(err)
}

// Every controller dies at each point of a pod's upgrade; the next one goes on.
func TestAnUpgradeSurvivesItsController(t *testing.T) {
	for _, step := range []string{"take", "fetch", "shims", "hold", "stop", "transform", "start", "health", "settle"} {
		for _, when := range []string{"begins", "did"} {
			t.Run(when+" "+step, func(t *testing.T) {
				l, h := newShop(t, oneByOne, "shop-0")
				died := l.dieAt(fmt.Sprintf("upgrade %s %s of shop-0", when, step))
				id := l.mustUpgradeTo("v2")
				<-died
				l.stop()
				l.start()
				l.becomes(id, upgradeFinished)
				h.shows(t, "shop-0 v2 v2")
				if l.view("shop-0").GetPhase() != phaseRunning {
					t.Errorf("pod is %v", l.view("shop-0"))
				}
			})
		}
	}
}

// A new version fails, and controllers die while it is taken back.
func TestATakingBackSurvivesItsController(t *testing.T) {
	for _, step := range []string{"health", "start", "transform", "stop", "hold", "take"} {
		t.Run(step, func(t *testing.T) {
			l, h := newShop(t, oneByOne, "shop-0")
			h.set(func() { h.upgrades.sick = map[string]string{"shop:2": "it is sick"} })
			died := l.dieAt("upgrade undoes " + step + " of shop-0")
			id := l.mustUpgradeTo("v2")
			<-died
			l.stop()
			l.start()
			l.becomes(id, upgradeStopped)
			h.shows(t, "shop-0 v1 v1")
		})
	}
}

func TestAnUpgradeIsPausedAndResumed(t *testing.T) {
	l, h := newShop(t, oneByOne, "shop-0", "shop-1")
	g := &gateKeeper{holds: map[string]chan struct{}{"upgrade begins stop of shop-0": make(chan struct{})}}
	l.fault = g.at
	l.stop()
	l.start()
	id := l.mustUpgradeTo("v2")
	g.reached(l, "upgrade begins stop of shop-0")
	_, err := l.upgrades.PauseUpgrade(l.Context(), connect.NewRequest(&drydockv1.PauseUpgradeRequest{Id: id}))
	l.must(err)
	close(g.holds["upgrade begins stop of shop-0"])
	l.becomes(id, upgradePaused)
	h.shows(t, "shop-0 v2 v2", "shop-1 v1 v1")
	_, err = l.upgrades.ResumeUpgrade(l.Context(), connect.NewRequest(&drydockv1.ResumeUpgradeRequest{Id: id}))
	l.must(err)
	l.becomes(id, upgradeFinished)
	h.shows(t, "shop-1 v2 v2")
}

func TestAnAbortTakesBackWhatIsHalfDone(t *testing.T) {
	l, h := newShop(t, oneByOne, "shop-0", "shop-1")
	g := &gateKeeper{holds: map[string]chan struct{}{"upgrade did transform of shop-1": make(chan struct{})}}
	l.fault = g.at
	l.stop()
	l.start()
	id := l.mustUpgradeTo("v2")
	l.eventually("the second pod is changed", func() bool { return h.shown("shop-1") == "shop-1 v2 v2 stopped" })
	_, err := l.upgrades.AbortUpgrade(l.Context(), connect.NewRequest(&drydockv1.AbortUpgradeRequest{Id: id}))
	l.must(err)
	close(g.holds["upgrade did transform of shop-1"])
	l.becomes(id, upgradeAborted)
	h.shows(t, "shop-0 v2 v2", "shop-1 v1 v1")
}

func TestNobodyElseTouchesAPodThatIsBeingUpgraded(t *testing.T) {
	l, _ := newShop(t, oneByOne, "shop-0")
	l.join("h2")
	g := &gateKeeper{holds: map[string]chan struct{}{"upgrade begins stop of shop-0": make(chan struct{})}}
	l.fault = g.at
	l.stop()
	l.start()
	id := l.mustUpgradeTo("v2")
	l.eventually("the upgrade has the pod", func() bool { return l.upgrade(id).GetPods()[0].GetStep() == "stop" })
	ctx := context.Background()
	_, err := l.admin.StopPod(ctx, connect.NewRequest(&drydockv1.StopPodRequest{Name: "shop-0"}))
	l.refused(err, "upgrade "+id+" has it")
	_, err = l.admin.RemovePod(ctx, connect.NewRequest(&drydockv1.RemovePodRequest{Name: "shop-0", Force: true}))
	l.refused(err, "upgrade "+id+" has it")
	l.refused(l.applyRecord(shopRecord("none")), "upgrade "+id+" goes by the record")
	_, err = l.upgradeTo("v2")
	l.refused(err, "upgrade "+id+" of this service has not ended")
	close(g.holds["upgrade begins stop of shop-0"])
	l.becomes(id, upgradeFinished)
}

func TestAFlagLetsAnUpgradeBegin(t *testing.T) {
	l, h := newShop(t, "{kind: flag, flag: spring}", "shop-0")
	id := l.mustUpgradeTo("v2")
	if u := l.becomes(id, upgradeWaiting); !strings.Contains(u.GetReason(), "flag spring is not set") {
		t.Errorf("it waits for %q", u.GetReason())
	}
	h.shows(t, "shop-0 v1 v1")
	_, err := l.upgrades.SetFlag(l.Context(), connect.NewRequest(&drydockv1.SetFlagRequest{Name: "shop", Flag: "spring"}))
	l.must(err)
	l.becomes(id, upgradeFinished)
}

func TestClientsFirstWaitsForClients(t *testing.T) {
	l, _ := newShop(t, "{kind: clients-first}", "shop-0")
	client := func(version string) *drydockv1.PodSpec {
		return &drydockv1.PodSpec{Name: "client-" + version, Labels: map[string]string{"speaks.drydock/shop": version}, Containers: []*drydockv1.Container{{Image: "shop:1"}}}
	}
	_, err := l.runSpec(client("v1"), "h1")
	l.must(err)
	id := l.mustUpgradeTo("v2")
	if u := l.becomes(id, upgradeWaiting); !strings.Contains(u.GetReason(), "pod client-v1 does not speak v2 yet") {
		t.Errorf("it waits for %q", u.GetReason())
	}
	_, err = l.admin.RemovePod(l.Context(), connect.NewRequest(&drydockv1.RemovePodRequest{Name: "client-v1", Force: true}))
	l.must(err)
	_, err = l.runSpec(client("v2"), "h1")
	l.must(err)
	l.becomes(id, upgradeFinished)
}

func TestServersFirstKeepsNewClientsBack(t *testing.T) {
	l, _ := newShop(t, "{kind: servers-first}", "shop-0")
	client := &drydockv1.PodSpec{Name: "client", Labels: map[string]string{"speaks.drydock/shop": "v2"}, Containers: []*drydockv1.Container{{Image: "shop:1"}}}
	_, err := l.runSpec(client, "h1")
	l.refused(err, "servers first: pod shop-0 still serves v1")
	l.becomes(l.mustUpgradeTo("v2"), upgradeFinished)
	_, err = l.runSpec(client, "h1")
	l.must(err)
}

func TestAServiceShowsWhatRunsAndWhoNeedsWhichTranslator(t *testing.T) {
	l, _ := newShop(t, oneByOne, "shop-0", "shop-1")
	_, err := l.runSpec(&drydockv1.PodSpec{Name: "old", Labels: map[string]string{"speaks.drydock/shop": "v1"}, Containers: []*drydockv1.Container{{Image: "shop:1"}}}, "h1")
	l.must(err)
	l.becomes(l.mustUpgradeTo("v2", "shop-0"), upgradeFinished)
	response, err := l.upgrades.GetService(l.Context(), connect.NewRequest(&drydockv1.GetServiceRequest{Name: "shop"}))
	l.must(err)
	s := response.Msg.GetService()
	if diff := cmp.Diff(map[string]int32{"v1": 1, "v2": 1}, s.GetRunning()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var lines []string
	for _, tr := range s.GetTranslators() {
		lines = append(lines, fmt.Sprintf("%s-%s %v %v", tr.GetFrom(), tr.GetTo(), tr.GetClients(), tr.GetServers()))
	}
	if diff := cmp.Diff([]string{"v1-v2 [old] [shop-0]"}, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if since := s.GetPods()[0].GetSince(); !since.AsTime().After(l.view("shop-0").GetCreated().AsTime()) {
		t.Errorf("shop-0 is v2 since %s", since.AsTime())
	}
}

func TestEveryPodUnderstandsAVersionBeforeAPodOfItIsThere(t *testing.T) {
	l, h := newShop(t, oneByOne)
	record := func(preset string) string {
		return strings.Replace(shopRecord(oneByOne), "{default: v1}", "{default: "+preset+", header: X-Shop}", 1)
	}
	l.must(l.applyRecord(record("v1")))
	ports := map[string]string{"drydock/ports": "80"}
	l.serve("shop-0", "v1", ports)
	l.serve("shop-1", "v1", ports)
	l.becomes(l.mustUpgradeTo("v2", "shop-0"), upgradeFinished)
	var events []string
	h.set(func() { events = append(events, h.upgrades.events...) })
	if diff := cmp.Diff([]string{"shop-0 is made", "shop-1 is made", "shim of shop-1 v1", "shop-0 becomes v2"}, events); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if shim := l.view("shop-0").GetSpec().GetShim(); shim.GetVersion() != "v2" || len(shim.GetPorts()) != 1 {
		t.Errorf("the shim of shop-0 is %v", shim)
	}
	l.becomes(l.mustUpgradeTo("v2"), upgradeFinished)
	if shim := l.view("shop-1").GetSpec().GetShim(); shim.GetVersion() != "v2" {
		t.Errorf("the shim of shop-1 is %v", shim)
	}
	generation := l.view("shop-1").GetSpec().GetShim().GetGeneration()
	l.must(l.applyRecord(record("v2"))) // now everybody speaks v2
	l.eventually("nobody has a shim", func() bool {
		return l.view("shop-0").GetSpec().GetShim() == nil && l.view("shop-1").GetSpec().GetShim() == nil
	})
	l.must(l.applyRecord(record("v1")))
	l.eventually("it has a shim again, and not one that could be taken for the first", func() bool {
		return l.view("shop-1").GetSpec().GetShim().GetGeneration() > generation
	})
}

func TestAPodThatIsRunHasItsShimAndSoHaveTheOthersWhenItIsThere(t *testing.T) {
	l, h := newShop(t, oneByOne)
	l.must(l.applyRecord(strings.Replace(shopRecord(oneByOne), "{default: v1}", "{default: v1, header: X-Shop}", 1)))
	ports := map[string]string{"drydock/ports": "80"}
	l.serve("shop-0", "v1", ports)
	l.serve("shop-1", "v2", ports)
	h.set(func() {
		if diff := cmp.Diff([]string{"shop-0 is made", "shim of shop-0 v1", "shop-1 is made"}, h.upgrades.events); diff != "" || h.upgrades.specs["shop-1"].GetShim().GetVersion() != "v2" {
			t.Errorf("shop-1 was made with %v (-want +got):\n%s", h.upgrades.specs["shop-1"].GetShim(), diff)
		}
	})
}

func TestARecordThatIsTooLargeForShimsIsRefusedWhereTheyAreNeeded(t *testing.T) {
	l, _ := newShop(t, oneByOne, "mute")
	large := shopRecord(oneByOne) + "#" + strings.Repeat("x", 500<<10) + "\n"
	l.must(l.applyRecord(large))
	l.becomes(l.mustUpgradeTo("v2", "mute"), upgradeFinished) // it has no port, and so no shim
	ports := map[string]string{"drydock/ports": "80"}
	l.serve("shop-0", "v1", ports)
	_, err := l.upgradeTo("v2")
	l.refused(err, "more than the 460800 that the shims of pods can have")
	_, err = l.runSpec(serving("shop-1", "v2", ports), "h1")
	l.refused(err, "more than the 460800 that the shims of pods can have")
}

func TestNoPodIsStoppedBeforeTheOthersUnderstandItsNewVersion(t *testing.T) {
	l, h := newShop(t, oneByOne)
	l.must(l.applyRecord(strings.Replace(shopRecord(oneByOne), "{default: v1}", "{default: v1, header: X-Shop}", 1)))
	h.set(func() { h.upgrades.noShims = "the kernel has no sk_lookup" })
	l.serve("shop-0", "v1", nil)
	l.serve("shop-1", "v1", map[string]string{"drydock/ports": "80"})
	id := l.mustUpgradeTo("v2", "shop-0")
	l.eventually("it waits for the shim", func() bool {
		p := l.upgrade(id).GetPods()[0]
		return p.GetStep() == "shims" && strings.Contains(p.GetActivity(), "the shim of pod shop-1") && strings.Contains(p.GetActivity(), "no sk_lookup")
	})
	h.shows(t, "shop-0 v1 v1")
	h.set(func() { h.upgrades.noShims = "" })
	l.becomes(id, upgradeFinished)
}

func TestAGatewayKnowsTheServersAndHoldsCallsToOneThatIsUpgraded(t *testing.T) {
	l, h := newShop(t, oneByOne)
	l.must(l.applyRecord(strings.Replace(shopRecord(oneByOne), "{default: v1}", "{default: v1, header: X-Shop}\ngateway: {pod: front, image: 'shop:1', ports: [80]}", 1)))
	ports := map[string]string{"drydock/ports": "8080"}
	l.serve("shop-0", "v1", ports)
	l.serve("shop-1", "v1", ports)
	events := func() (all []string) {
		h.set(func() { all = slices.Clone(h.upgrades.events) })
		return all
	}
	l.eventually("the gateway knows both", func() bool { return slices.Contains(events(), "gateway front shop-0=v1 shop-1=v1") })
	if backends := l.view("front").GetSpec().GetShim().GetBackends(); len(backends) != 2 || !strings.HasSuffix(backends[0].GetAddress(), ":8080") {
		t.Errorf("backends are %v", backends)
	}
	before := len(events())
	l.becomes(l.mustUpgradeTo("v2", "shop-0"), upgradeFinished)
	seen := slices.DeleteFunc(events()[before:], func(event string) bool {
		return strings.HasPrefix(event, "shim") || event == "gateway front shop-0=v2! shop-1=v1" // whoever looks meanwhile
	})
	if diff := cmp.Diff([]string{"gateway front shop-0=v1! shop-1=v1", "shop-0 becomes v2", "gateway front shop-0=v2 shop-1=v1"}, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range []string{"shop-0", "shop-1"} {
		_, err := l.admin.RemovePod(l.Context(), connect.NewRequest(&drydockv1.RemovePodRequest{Name: name, Force: true}))
		l.must(err)
	}
	_, err := l.upgrades.RemoveService(l.Context(), connect.NewRequest(&drydockv1.RemoveServiceRequest{Name: "shop"}))
	l.must(err)
	if _, err := l.admin.GetPod(l.Context(), connect.NewRequest(&drydockv1.GetPodRequest{Name: "front"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("the gateway is still there: %v", err)
	}
}

func TestWhoHasReadAnEarlierShimDoesNotUndoWhatIsThere(t *testing.T) {
	l, h := newShop(t, oneByOne)
	l.image("h1")
	l.mustRun("plain", "h1")
	services := forUpgrades{l.Controller}
	shim := func(version string) *drydockv1.ShimSpec {
		return &drydockv1.ShimSpec{Service: "other", Version: version}
	}
	l.must(services.SetShim(l.Context(), "plain", 0, shim("v1")))
	for _, was := range []uint64{0, 2} {
		if err := services.SetShim(l.Context(), "plain", was, shim("v2")); !errors.Is(err, upgrade.ErrShimChanged) {
			t.Errorf("after generation %d: %v", was, err)
		}
	}
	h.set(func() {
		if got := h.upgrades.shims["plain"]; got.GetVersion() != "v1" || got.GetGeneration() != 1 {
			t.Errorf("the host has %v", got)
		}
	})
	l.must(services.SetShim(l.Context(), "plain", 1, shim("v2")))
}

// Whatever becomes of an upgrade and of its controller, calls come to the pod again.
func TestAPodIsNotHeldForEver(t *testing.T) {
	for _, test := range []struct {
		name, dies, sick, end string
		state                 drydockv1.UpgradeState
	}{
		{"a controller dies while calls are held", "upgrade did health of shop-0", "", "gateway front shop-0=v2 shop-1=v1", upgradeFinished},
		{"a controller dies while it holds them", "upgrade did hold of shop-0", "", "gateway front shop-0=v2 shop-1=v1", upgradeFinished},
		{"the new version is taken back", "upgrade undoes stop of shop-0", "it is sick", "gateway front shop-0=v1 shop-1=v1", upgradeStopped},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, h := newShop(t, oneByOne)
			l.must(l.applyRecord(strings.Replace(shopRecord(oneByOne), "{default: v1}", "{default: v1, header: X-Shop}\ngateway: {pod: front, image: 'shop:1', ports: [80]}", 1)))
			ports := map[string]string{"drydock/ports": "8080"}
			l.serve("shop-0", "v1", ports)
			l.serve("shop-1", "v1", ports)
			last := func(event string) func() bool {
				return func() (is bool) {
					h.set(func() { is = shimEvent("front", h.upgrades.shims["front"]) == event })
					return is
				}
			}
			l.eventually("the gateway knows both", last("gateway front shop-0=v1 shop-1=v1"))
			h.set(func() {
				if test.sick != "" {
					h.upgrades.sick = map[string]string{"shop:2": test.sick}
				}
			})
			died := l.dieAt(test.dies)
			id := l.mustUpgradeTo("v2", "shop-0")
			<-died
			if held := last(strings.Replace(test.end, " shop-1", "! shop-1", 1)); test.sick == "" && !held() && !last("gateway front shop-0=v1! shop-1=v1")() {
				t.Error("calls are not held")
			}
			l.stop()
			l.start()
			l.becomes(id, test.state)
			l.eventually("calls come to it again", last(test.end))
			steps := l.upgrade(id).GetPods()[0].GetSteps()
			back := slices.IndexFunc(steps, func(s *drydockv1.UpgradeStep) bool { return s.GetName() == "stop" && s.GetUndone() })
			if back < 0 {
				return
			}
			ended := func(s *drydockv1.UpgradeStep) time.Time { return s.GetStarted().AsTime().Add(s.GetTook().AsDuration()) }
			if got, want := ended(steps[back]).Sub(ended(steps[back-1])), 10*l.config.Timings.ReconcileInterval; got < want {
				t.Errorf("calls come to the old version after %s, and it counts as healthy after %s", got, want)
			}
		})
	}
}

func TestARecordIsNotTakenFromPodsThatNeedIt(t *testing.T) {
	l, _ := newShop(t, oneByOne, "shop-0")
	_, err := l.upgrades.RemoveService(l.Context(), connect.NewRequest(&drydockv1.RemoveServiceRequest{Name: "shop"}))
	l.refused(err, "pod shop-0 serves version v1")
	newer := "service: shop\nclient: {default: v3}\nversions: [v3]\npairs: []\n"
	l.refused(l.applyRecord(newer), "pod shop-0 serves version v1 of service shop, which the record does not know")
	unknown := serving("shop-1", "v1", nil)
	unknown.Labels["drydock/version"] = "v9"
	_, err = l.runSpec(unknown, "h1")
	l.refused(err, "serves version v9 of service shop, which its record does not know")
	_, err = l.admin.RemovePod(l.Context(), connect.NewRequest(&drydockv1.RemovePodRequest{Name: "shop-0", Force: true}))
	l.must(err)
	l.must(l.applyRecord(newer))
	_, err = l.upgrades.RemoveService(l.Context(), connect.NewRequest(&drydockv1.RemoveServiceRequest{Name: "shop"}))
	l.must(err)
	_, err = l.runSpec(serving("shop-1", "v1", nil), "h1")
	l.refused(err, "there is no service shop")
}

func TestARecordWithFaultsIsRefusedWithEachOfThem(t *testing.T) {
	l := newLab(t)
	err := l.applyRecord(strings.Replace(shopRecord("{kind: soon}"), "default: v1", "default: v8", 1))
	l.refused(err, `shop.yaml:2:19: client.default: "v8" is not among the versions`, `schedule.kind: "soon" is not known`)
}
