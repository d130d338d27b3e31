package agent

import (
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/pki"
)

func TestAPeerThatHasBootedOrMovedIsReachedOverANewConnection(t *testing.T) {
	ca, err := pki.NewCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := ca.Issue(pki.Identity{Kind: pki.Host, Name: "h1"})
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := pki.NewKeeper(t.TempDir(), bundle, ca.Certificate(), pki.SystemClock{})
	if err != nil {
		t.Fatal(err)
	}
	p := newPeers(keeper)
	at := func(address, boot string) *drydockv1.Peer {
		return &drydockv1.Peer{Name: "h2", Address: address, BootId: boot}
	}
	first, _ := p.client(at("10.0.0.2:7444", "one"))
	if again, _ := p.client(at("10.0.0.2:7444", "")); again != first {
		t.Error("asked for by its address alone, it got another connection")
	}
	p.learn(&drydockv1.ReportResponse{Peers: []*drydockv1.Peer{at("10.0.0.2:7444", "two")}})
	second, _ := p.client(at("10.0.0.2:7444", ""))
	if second == first {
		t.Error("after a boot the connection is the same")
	}
	if third, _ := p.client(at("10.0.0.3:7444", "two")); third == second {
		t.Error("at another address the connection is the same")
	}
}

func TestChangesOfTheOtherHostsAddUpToAllOfThem(t *testing.T) {
	p := newPeers(nil)
	peer := func(name, address string) *drydockv1.Peer { return &drydockv1.Peer{Name: name, Address: address} }
	for i, step := range []struct {
		said *drydockv1.ReportResponse
		want string
		next int64
	}{
		{&drydockv1.ReportResponse{Peers: []*drydockv1.Peer{peer("h3", "c"), peer("h2", "b")}, PeersRevision: 5, PeersCount: 2}, "h2=b h3=c ", 5},
		{&drydockv1.ReportResponse{PeersChanged: true, PeersRevision: 5, PeersCount: 2}, "h2=b h3=c ", 5},
		{&drydockv1.ReportResponse{PeersChanged: true, Peers: []*drydockv1.Peer{peer("h3", "d"), peer("h4", "e")}, PeersRemoved: []string{"h2"}, PeersRevision: 9, PeersCount: 2}, "h3=d h4=e ", 9},
		// One went without a word of it, as when another controller leads: all are asked for, and told.
		{&drydockv1.ReportResponse{PeersChanged: true, PeersRevision: 12, PeersCount: 1}, "h3=d h4=e ", 0},
		{&drydockv1.ReportResponse{Peers: []*drydockv1.Peer{peer("h4", "e")}, PeersRevision: 12, PeersCount: 1}, "h4=e ", 12},
		// A controller of the version before always tells all.
		{&drydockv1.ReportResponse{Peers: []*drydockv1.Peer{peer("h4", "f")}}, "h4=f ", 0},
	} {
		got := ""
		for _, peer := range p.learn(step.said) {
			got += peer.Name + "=" + peer.Address + " "
		}
		if got != step.want || p.current() != step.next {
			t.Errorf("step %d: knows %q at %d, not %q at %d", i, got, p.current(), step.want, step.next)
		}
	}
}
