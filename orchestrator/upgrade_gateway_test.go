package orchestrator

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

// newShopWithGateway has two servers that the gateway knows. Its controller's clock is the one that comes back, and it meets fault.
func newShopWithGateway(t *testing.T, fault func(h *fakeHost, point string)) (*lab, *fakeHost, *fakeClock) {
	t.Helper()
	l, h := newShop(t, oneByOne)
	l.stop()
	clock := clockAt(time.Now())
	l.clock, l.fault = clock.now, func(point string) error {
		fault(h, point)
		return nil
	}
	l.start()
	l.must(l.applyRecord(strings.Replace(shopRecord(oneByOne), "{default: v1}", "{default: v1, header: X-Shop}\ngateway: {pod: front, image: 'shop:1', ports: [80]}", 1)))
	ports := map[string]string{"drydock/ports": "8080"}
	l.serve("shop-0", "v1", ports)
	l.serve("shop-1", "v1", ports)
	l.eventually("the gateway knows both", h.frontIs("gateway front shop-0=v1 shop-1=v1"))
	return l, h, clock
}

func (h *fakeHost) frontIs(event string) func() bool {
	return func() (is bool) {
		h.set(func() { is = shimEvent("front", h.upgrades.shims["front"]) == event })
		return is
	}
}

func TestAnUpgradeDoesNotWaitForEverForAGatewayThatDoesNotServe(t *testing.T) {
	for _, test := range []struct {
		name, from string
		abort      bool
		state      drydockv1.UpgradeState
		end, pod   string
	}{
		{"calls cannot be held", "upgrade begins hold of shop-0", false, upgradeStopped, "gateway front shop-0=v1 shop-1=v1", "shop-0 v1 v1"},
		{"calls cannot be held, and an operator aborts", "upgrade begins hold of shop-0", true, upgradeAborted, "gateway front shop-0=v1 shop-1=v1", "shop-0 v1 v1"},
		{"calls cannot be let go on", "upgrade begins settle of shop-0", false, upgradeFinished, "gateway front shop-0=v2 shop-1=v1", "shop-0 v2 v2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var once sync.Once
			l, h, clock := newShopWithGateway(t, func(h *fakeHost, point string) {
				if point == test.from {
					once.Do(func() { h.set(func() { h.upgrades.starting = "front" }) })
				}
			})
			id := l.mustUpgradeTo("v2", "shop-0")
			l.eventually("it says what it waits for", func() bool {
				return strings.Contains(l.upgrade(id).GetPods()[0].GetActivity(), "the gateway, pod front, does not serve as it should: it is starting")
			})
			h.shows(t, test.pod)
			if test.abort {
				_, err := l.upgrades.AbortUpgrade(l.Context(), connect.NewRequest(&drydockv1.AbortUpgradeRequest{Id: id}))
				l.must(err)
			}
			l.eventually("it waits no more", func() bool {
				clock.forward(30 * time.Second)
				return l.upgrade(id).GetState() == test.state
			})
			h.shows(t, test.pod)
			if u := l.upgrade(id); test.state == upgradeStopped {
				why := u.GetProblems()[0]
				if !strings.Contains(why.GetReason(), "pod shop-0, hold: the gateway, pod front") || !strings.Contains(why.GetRemedy(), "drydock upgrade resume "+id) {
					t.Errorf("problems: %v", u.GetProblems())
				}
			}
			l.eventually("the gateway is to lead calls to it", h.frontIs(test.end))
			h.set(func() { h.upgrades.starting = "" })
			if test.state == upgradeStopped {
				_, err := l.upgrades.ResumeUpgrade(l.Context(), connect.NewRequest(&drydockv1.ResumeUpgradeRequest{Id: id}))
				l.must(err)
				l.becomes(id, upgradeFinished)
			}
		})
	}
}

// newShopThatWaits closes stopping when an upgrade is to stop shop-0, and does that when goOn is closed.
func newShopThatWaits(t *testing.T) (l *lab, h *fakeHost, stopping, goOn chan struct{}) {
	t.Helper()
	stopping, goOn = make(chan struct{}), make(chan struct{})
	var once sync.Once
	l, h, _ = newShopWithGateway(t, func(_ *fakeHost, point string) {
		if point == "upgrade begins stop of shop-0" {
			once.Do(func() {
				close(stopping)
				<-goOn
			})
		}
	})
	return l, h, stopping, goOn
}

func TestAGatewayThatIsStartedMeanwhileKeepsCallsFromItsFirstMoment(t *testing.T) {
	l, h, stopping, goOn := newShopThatWaits(t)
	_, err := l.admin.StopPod(l.Context(), connect.NewRequest(&drydockv1.StopPodRequest{Name: "front"}))
	l.must(err)
	id := l.mustUpgradeTo("v2", "shop-0")
	<-stopping
	if b := l.view("front").GetSpec().GetShim().GetBackends(); len(b) != 2 || !b[0].GetHold() {
		t.Errorf("shop-0 is stopped, and a gateway that is started knows %v", b)
	}
	close(goOn)
	l.becomes(id, upgradeFinished)
	h.shows(t, "shop-0 v2 v2")
}

func TestNoPodIsStoppedWhileItsGatewayIsBeingStarted(t *testing.T) {
	l, h, _ := newShopWithGateway(t, func(*fakeHost, string) {})
	_, err := l.admin.StopPod(l.Context(), connect.NewRequest(&drydockv1.StopPodRequest{Name: "front"}))
	l.must(err)
	h.set(func() { h.upgrades.unmade = "front" })
	started := make(chan error, 1)
	go func() {
		_, err := l.admin.StartPod(context.Background(), connect.NewRequest(&drydockv1.StartPodRequest{Name: "front"}))
		started <- err
	}()
	l.eventually("the gateway is being started", func() bool { return l.view("front").GetPhase() == phasePending })
	id := l.mustUpgradeTo("v2", "shop-0")
	l.eventually("it says what it waits for", func() bool {
		return strings.Contains(l.upgrade(id).GetPods()[0].GetActivity(), "the gateway, pod front, is being started")
	})
	h.shows(t, "shop-0 v1 v1")
	h.set(func() { h.upgrades.unmade = "" })
	<-started // whether it came at once or later
	l.becomes(id, upgradeFinished)
}

func TestAServiceShowsItsGateway(t *testing.T) {
	l, h, stopping, goOn := newShopThatWaits(t)
	h.set(func() { h.upgrades.calls = map[string]int64{"shop-1": 3} })
	shown := func() string {
		response, err := l.upgrades.GetService(l.Context(), connect.NewRequest(&drydockv1.GetServiceRequest{Name: "shop"}))
		l.must(err)
		g := response.Msg.GetService().GetGateway()
		text := fmt.Sprint(g.GetPod(), " ", g.GetHost(), " ", g.GetPhase() == phaseRunning, " ", g.GetProblem(), ":")
		for _, b := range g.GetBackends() {
			text += fmt.Sprint(" ", b.GetBackend().GetName(), " ", b.GetBackend().GetVersion(), " ", b.GetBackend().GetHold(), " ", b.GetCalls())
		}
		return text
	}
	id := l.mustUpgradeTo("v2", "shop-0")
	<-stopping
	if got, want := shown(), "front h1 true : shop-0 v1 true 0 shop-1 v1 false 3"; got != want {
		t.Errorf("it shows %q, not %q", got, want)
	}
	close(goOn)
	l.becomes(id, upgradeFinished)
	h.set(func() { h.upgrades.starting = "front" })
	if got, want := shown(), "front h1 true it is starting"; !strings.HasPrefix(got, want) {
		t.Errorf("it shows %q, not %q", got, want)
	}
	_, err := l.admin.StopPod(l.Context(), connect.NewRequest(&drydockv1.StopPodRequest{Name: "front"}))
	l.must(err)
	if got, want := shown(), "front h1 false"; !strings.HasPrefix(got, want) {
		t.Errorf("it shows %q, not %q", got, want)
	}
}

func TestAPodIsStoppedWhenItsCallsHaveEndedOrTakeTooLong(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) {
			l, h, clock := newShopWithGateway(t, func(*fakeHost, string) {})
			h.set(func() { h.upgrades.calls = map[string]int64{"shop-0": 2, "shop-1": 1} })
			id := l.mustUpgradeTo("v2", "shop-0")
			l.eventually("it waits for the calls", func() bool { return l.upgrade(id).GetPods()[0].GetActivity() == "2 calls are under way" })
			h.shows(t, "shop-0 v1 v1")
			if late {
				clock.forward(time.Minute)
			} else {
				h.set(func() { delete(h.upgrades.calls, "shop-0") })
			}
			l.becomes(id, upgradeFinished)
		})
	}
}
