package orchestrator

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// secured is what a host finds behind a switch that knows one MAC of each port, unless pods are on a VXLAN.
func secured(h *fakeHost) func(string) *drydockv1.ReachPeerResponse {
	return func(string) *drydockv1.ReachPeerResponse {
		found := &drydockv1.ReachPeerResponse{Reachable: true, Tried: true, CarriesForeignMac: h.network.GetKind() == config.NetworkVXLAN}
		if !found.GetCarriesForeignMac() {
			found.Reason = "no route to host"
		}
		return found
	}
}

func (l *lab) seenHost(name string) *drydockv1.Host {
	l.Helper()
	response, err := l.admin.GetHost(l.Context(), connect.NewRequest(&drydockv1.GetHostRequest{Name: name}))
	l.must(err)
	return response.Msg.GetHost()
}

func (l *lab) linkOf(name string) *drydockv1.HostLink {
	l.Helper()
	links := l.seenHost(name).GetLinks()
	if len(links) != 1 {
		l.Fatalf("host %s has links %v", name, links)
	}
	return links[0]
}

func TestTheSecondHostProvesWithTheFirstThatPodsCanMove(t *testing.T) {
	l := newLab(t)
	first := l.join("h1")
	l.eventually("the first host's network is known to be unproven", func() bool {
		info := l.seenHost("h1").GetInfo()
		return info.GetNetwork() == linkUnproven && contains(info.GetNetworkReason(), "no other host has joined")
	})
	l.image("h1")
	if pod := l.mustRun("early", "h1"); pod.GetSpec().GetMtu() != 1450 {
		t.Errorf("while nothing is settled, a pod's MTU is %d and leaves no room for VXLAN", pod.GetSpec().GetMtu())
	}
	l.joinAll("h2")
	for _, name := range []string{"h1", "h2"} {
		l.eventually("what was proven is settled", func() bool { return l.seenHost(name).GetInfo().GetNetwork() == config.NetworkBridge })
		h := l.seenHost(name)
		if !contains(h.GetInfo().GetNetworkReason(), "h1 and h2") || h.GetMessage() != "" {
			t.Errorf("got %v", h)
		}
		if link := l.linkOf(name); link.GetState() != linkProven || link.GetTried() == nil || link.GetReason() != "" {
			t.Errorf("got %v", link)
		}
	}
	l.eventually("the first host is told", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.network.GetKind() == config.NetworkBridge
	})
	if pod := l.mustRun("late", "h1"); pod.GetSpec().GetMtu() != 1500 {
		t.Errorf("on the bridge a pod's MTU is %d", pod.GetSpec().GetMtu())
	}
}

// apart is two hosts between which the network carries no pod's MAC, of which the second has no VXLAN, and a pod on the first.
func apart(t *testing.T) (*lab, []*fakeHost) {
	t.Helper()
	l := newLab(t)
	h1 := l.join("h1")
	h1.set(func() { h1.noVXLAN, h1.reach = "the kernel has no VXLAN", secured(h1) })
	l.image("h1")
	l.mustRun("web", "h1")
	h2 := l.join("h2")
	l.eventually("h2 is known not to be reached", func() bool { return l.linkOf("h2").GetState() == linkFailed })
	return l, []*fakeHost{h1, h2}
}

func TestAHostThatFailsTheProofJoinsAndNoPodMovesThere(t *testing.T) {
	l, _ := apart(t)
	l.eventually("the reason against VXLAN is told", func() bool {
		info := l.seenHost("h2").GetInfo()
		return info.GetNetwork() == linkUnproven && contains(info.GetNetworkReason(), "host h1 cannot use VXLAN: the kernel has no VXLAN")
	})
	h := l.seenHost("h2")
	if h.GetState() != hostReady || !contains(h.GetMessage(), "no pod can move between it and h1") {
		t.Errorf("got %v", h)
	}
	_, _, err := l.move(t.Context(), "web", "h2", false)
	l.refused(err, "the network from host h1 to h2 does not carry a pod's MAC")
	if remedy := refusal.Of(err)[0].GetRemedy(); !contains(remedy, "network.kind: vxlan") {
		t.Errorf("remedy is %q", remedy)
	}
	_, _, err = l.move(t.Context(), "web", "h2", true)
	l.refused(err, "the network from host h1 to h2 does not carry a pod's MAC")
	checks, err := l.doctor(t.Context(), "h2")
	if err != nil || len(checks) != 1 || checks[0].GetOk() || checks[0].GetName() != "reaches h1" || !contains(checks[0].GetDetail(), "does not carry") || checks[0].GetRemedy() == "" {
		t.Errorf("doctor: %v, %v", checks, err)
	}
}

func TestAHostThatNoPodCanLeaveIsChosenLastForNewOnes(t *testing.T) {
	l, hosts := apart(t)
	hosts[0].set(func() {
		hosts[0].reach = func(peer string) *drydockv1.ReachPeerResponse {
			return &drydockv1.ReachPeerResponse{Reachable: true, Tried: true, CarriesForeignMac: peer != "h2"}
		}
	})
	hosts[1].set(func() { hosts[1].memory, hosts[1].reach = 64<<30, secured(hosts[1]) })
	l.join("h3")
	l.eventually("h1 and h3 have proven it, and h2 has the most memory", func() bool {
		links, err := l.links(t.Context())
		return err == nil && links.between(links.hosts["h1"], links.hosts["h3"]).state == linkProven &&
			links.hosts["h2"].report.GetInfo().GetMemoryAvailableBytes() == 64<<30
	})
	if pod := l.mustRun("new", ""); pod.GetHost() == "h2" {
		t.Error("placed on the host that no pod can leave")
	}
	if pod := l.mustRun("asked", "h2"); pod.GetHost() != "h2" {
		t.Errorf("asked for h2, placed on %s", pod.GetHost())
	}
}

func TestWhereTheNetworkCarriesNoPodsMACPodsAreJoinedByVXLAN(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"h1", "h2"} {
		h := l.join(name)
		h.set(func() { h.reach = secured(h) })
	}
	l.eventually("it is VXLAN", func() bool { return l.seenHost("h1").GetInfo().GetNetwork() == config.NetworkVXLAN })
	l.proven()
	info := l.seenHost("h2").GetInfo()
	if info.GetNetwork() != config.NetworkVXLAN || !contains(info.GetNetworkReason(), "does not carry a pod's MAC between h1 and h2") {
		t.Errorf("got %v", info)
	}
	l.image("h1")
	if pod := l.mustRun("web", "h1"); pod.GetSpec().GetMtu() != 1450 {
		t.Errorf("MTU is %d", pod.GetSpec().GetMtu())
	}
	h3 := l.join("h3")
	h3.set(func() { h3.noVXLAN = "the kernel has no VXLAN" })
	l.eventually("a host without VXLAN is known as such", func() bool {
		for _, link := range l.seenHost("h3").GetLinks() {
			if link.GetState() != linkFailed || !contains(link.GetReason(), "the kernel has no VXLAN") {
				return false
			}
		}
		return true
	})
	_, _, err := l.move(t.Context(), "web", "h3", false)
	l.refused(err, "pods of host h3 hang on bridge and not on vxlan yet: the kernel has no VXLAN")
}

func TestAProofHoldsForAnAddressAndIsMadeAgainForAnother(t *testing.T) {
	l := newLab(t)
	hosts := l.joinAll("h1", "h2")
	before := l.linkOf("h2").GetTried().AsTime()
	hosts[1].set(func() {
		_, port, _ := strings.Cut(hosts[1].address, ":")
		hosts[1].address = "localhost:" + port
	})
	l.eventually("it is proven again", func() bool {
		h, err := l.host(t.Context(), "h2")
		link := l.linkOf("h2")
		return err == nil && contains(h.record.GetAddress(), "localhost") && link.GetState() == linkProven && link.GetTried().AsTime().After(before)
	})
}

func TestWhatWasProvenIsNotLostByOneFrameOrAnAgentThatIsAway(t *testing.T) {
	l := newLab(t)
	hosts := l.joinAll("h1", "h2")
	try := func() string {
		t.Helper()
		links, err := l.links(t.Context())
		l.must(err)
		l.must(l.prove(t.Context(), links, links.hosts["h1"], links.hosts["h2"]))
		return l.linkOf("h1").GetState()
	}
	hosts[0].set(func() {
		hosts[0].reach = func(string) *drydockv1.ReachPeerResponse {
			return &drydockv1.ReachPeerResponse{Reason: "connection refused"}
		}
	})
	if got := try(); got != linkProven {
		t.Errorf("an agent that does not answer: %s", got)
	}
	var lost atomic.Int32
	hosts[0].set(func() {
		hosts[0].reach = func(string) *drydockv1.ReachPeerResponse {
			return &drydockv1.ReachPeerResponse{Reachable: true, Tried: true, CarriesForeignMac: lost.Add(1) > 1, Reason: "timeout"}
		}
	})
	if got := try(); got != linkProven || lost.Load() != 2 {
		t.Errorf("one frame was lost: %s after %d tries", got, lost.Load())
	}
	hosts[0].set(func() { hosts[0].reach = secured(hosts[0]) })
	if got := try(); got != linkFailed {
		t.Errorf("the network carries it no more: %s", got)
	}
	if kind := l.seenHost("h1").GetInfo().GetNetwork(); kind != config.NetworkBridge {
		t.Errorf("what was settled became %s under the pods", kind)
	}
}

func TestWhatIsProvenWithAHostGoesWithIt(t *testing.T) {
	l := newLab(t)
	l.joinAll("h1", "h2")
	_, err := l.admin.RemoveHost(t.Context(), connect.NewRequest(&drydockv1.RemoveHostRequest{Name: "h2"}))
	l.must(err)
	time.Sleep(5 * l.config.Timings.ReconcileInterval)
	if left, err := store.List[drydockv1.LinkRecord](t.Context(), l.store, keyLinks); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestPodsThatAreTooLargeForVXLANKeepTheBridge(t *testing.T) {
	l := newLab(t)
	l.joinAll("h1", "h2")
	l.image("h1")
	l.mustRun("web", "h1")
	l.stop()
	l.network = config.NetworkVXLAN
	l.start()
	l.eventually("it says why it stays the bridge", func() bool {
		info := l.seenHost("h1").GetInfo()
		return info.GetNetwork() == config.NetworkBridge && contains(info.GetNetworkReason(), "too large for it (web)")
	})
	_, err := l.admin.RemovePod(t.Context(), connect.NewRequest(&drydockv1.RemovePodRequest{Name: "web", Force: true}))
	l.must(err)
	l.eventually("it is VXLAN", func() bool { return l.seenHost("h1").GetInfo().GetNetwork() == config.NetworkVXLAN })
}

func TestEveryPairOfHostsComesUpOnce(t *testing.T) {
	for n := range 12 {
		seen := make(map[[2]int]bool)
		for k := range pairs(n) {
			a, b := pairAt(n, k)
			seen[[2]int{min(a, b), max(a, b)}] = true
			if a == b {
				t.Errorf("of %d hosts one is tried with itself", n)
			}
		}
		if len(seen) != n*(n-1)/2 {
			t.Errorf("of %d hosts %d pairs come up", n, len(seen))
		}
	}
	if got := pairs(10_000); got != mostPairs {
		t.Errorf("of 10,000 hosts %d pairs are tried", got)
	}
}
