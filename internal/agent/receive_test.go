package agent

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/pki"

	"connectrpc.com/connect"
)

func TestAHostSpeaksForItselfOnly(t *testing.T) {
	as := func(kind pki.Kind, name string) context.Context {
		return pki.WithIdentity(t.Context(), pki.Identity{Kind: kind, Name: name})
	}
	if err := isCaller(as(pki.Host, "h1"), "h1"); err != nil {
		t.Errorf("itself: %v", err)
	}
	for what, ctx := range map[string]context.Context{
		"another host":   as(pki.Host, "h3"),
		"a controller":   as(pki.Controller, "h1"),
		"no certificate": t.Context(),
	} {
		if err := isCaller(ctx, "h1"); connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%s: %v", what, err)
		}
		// Nothing of the agent is set: the call must end before any of it is used.
		_, err := (&receiveServer{&agent{}}).Prepare(ctx, connect.NewRequest(&drydockv1.ReceivePrepareRequest{Source: &drydockv1.Peer{Name: "h1"}}))
		if connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%s prepares: %v", what, err)
		}
	}
}

func TestOneAtATimeActsForAName(t *testing.T) {
	var h holds
	release, err := h.hold(t.Context(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.hold(t.Context(), "h2")
	if err != nil {
		t.Fatalf("another name waits: %v", err)
	}
	other()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.hold(over, "h1"); err == nil {
		t.Error("held twice")
	}
	release()
	if release, err = h.hold(t.Context(), "h1"); err != nil {
		t.Fatal(err)
	}
	release()
}

// older answers as a host from before AnswerProbe.
type older struct {
	drydockv1connect.UnimplementedReceiveServiceHandler
}

func TestAHostThatIsOlderThanProbesAnswersAtItsOwnAddress(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle(drydockv1connect.NewReceiveServiceHandler(older{}))
	server := httptest.NewServer(mux)
	defer server.Close()
	client := drydockv1connect.NewReceiveServiceClient(server.Client(), server.URL)
	peer := &drydockv1.Peer{Name: "h2", Address: "10.77.0.12:7441"}
	at, done, err := answeredAt(t.Context(), client, peer, netip.MustParsePrefix("10.77.255.254/16"))
	if err != nil || at != netip.MustParseAddr("10.77.0.12") {
		t.Fatalf("it answers at %s, %v", at, err)
	}
	done()
}
