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
	p.learn([]*drydockv1.Peer{at("10.0.0.2:7444", "two")})
	second, _ := p.client(at("10.0.0.2:7444", ""))
	if second == first {
		t.Error("after a boot the connection is the same")
	}
	if third, _ := p.client(at("10.0.0.3:7444", "two")); third == second {
		t.Error("at another address the connection is the same")
	}
}
