package pki

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"drydock/api/drydock/v1/drydockv1connect"
)

func newTestCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func keep(t *testing.T, ca *CA, id Identity, clock Clock) *Keeper {
	t.Helper()
	bundle, err := ca.Issue(id, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := NewKeeper(t.TempDir(), bundle, ca.Certificate(), clock)
	if err != nil {
		t.Fatal(err)
	}
	return keeper
}

// serve answers every allowed request with the caller's identity.
func serve(t *testing.T, keeper *Keeper, policy Policy, now func() time.Time) string {
	t.Helper()
	return serveWith(t, keeper, NewGuard(policy, now))
}

func serveWith(t *testing.T, keeper *Keeper, guard *Guard) string {
	t.Helper()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := FromContext(r.Context())
		if _, err := w.Write([]byte(id.String())); err != nil {
			t.Error(err)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: guard.TLS(echo), TLSConfig: keeper.ServerTLS(true), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

func get(t *testing.T, client *http.Client, url string) (int, string, error) {
	t.Helper()
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body.String(), nil
}

func TestOnlyThoseWhomThePolicyNamesMayCall(t *testing.T) {
	host, other := Identity{Kind: Host, Name: "h1"}, Identity{Kind: Controller, Name: "c1"}
	admin := Admin()
	for name, test := range map[string]struct {
		policy    Policy
		procedure string
		caller    *Identity
		want      connect.Code
	}{
		"an operator runs pods":                 {ControllerPolicy(), drydockv1connect.ControllerServiceRunPodProcedure, &admin, 0},
		"another role does not":                 {ControllerPolicy(), drydockv1connect.ControllerServiceRunPodProcedure, &Identity{Kind: Role, Name: "viewer"}, connect.CodePermissionDenied},
		"a host does not run pods":              {ControllerPolicy(), drydockv1connect.ControllerServiceRunPodProcedure, &host, connect.CodePermissionDenied},
		"a stranger does not run pods":          {ControllerPolicy(), drydockv1connect.ControllerServiceRunPodProcedure, nil, connect.CodeUnauthenticated},
		"a host reports":                        {ControllerPolicy(), drydockv1connect.CoordinationServiceReportProcedure, &host, 0},
		"an operator does not report":           {ControllerPolicy(), drydockv1connect.CoordinationServiceReportProcedure, &admin, connect.CodePermissionDenied},
		"a controller does not report":          {ControllerPolicy(), drydockv1connect.CoordinationServiceReportProcedure, &other, connect.CodePermissionDenied},
		"a stranger joins":                      {ControllerPolicy(), drydockv1connect.JoinServiceJoinProcedure, nil, 0},
		"a stranger does not renew":             {ControllerPolicy(), drydockv1connect.JoinServiceRenewProcedure, nil, connect.CodeUnauthenticated},
		"a host renews":                         {ControllerPolicy(), drydockv1connect.JoinServiceRenewProcedure, &host, 0},
		"a controller makes pods":               {AgentPolicy(), drydockv1connect.AgentServiceCreatePodProcedure, &other, 0},
		"a host does not make another's pods":   {AgentPolicy(), drydockv1connect.AgentServiceCreatePodProcedure, &host, connect.CodePermissionDenied},
		"an operator does not go to agents":     {AgentPolicy(), drydockv1connect.AgentServiceCreatePodProcedure, &admin, connect.CodePermissionDenied},
		"a host reads image layers":             {AgentPolicy(), drydockv1connect.AgentServiceReadBlobProcedure, &host, 0},
		"a host moves a pod here":               {AgentPolicy(), drydockv1connect.ReceiveServicePrepareProcedure, &host, 0},
		"a controller does not restore":         {AgentPolicy(), drydockv1connect.ReceiveServiceRestoreProcedure, &other, connect.CodePermissionDenied},
		"a controller patches":                  {AgentPolicy(), drydockv1connect.PatchServiceApplyProcedure, &other, 0},
		"a host does not patch another":         {AgentPolicy(), drydockv1connect.PatchServiceApplyProcedure, &host, connect.CodePermissionDenied},
		"an operator does not reboot by agents": {AgentPolicy(), drydockv1connect.PatchServiceRebootProcedure, &admin, connect.CodePermissionDenied},
		"what is not in the policy is refused":  {AgentPolicy(), "/other.Service/Call", &other, connect.CodePermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.policy.Check(test.procedure, test.caller)
			if test.want == 0 && err != nil || test.want != 0 && connect.CodeOf(err) != test.want {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestACallerIsWhomItsCertificateNames(t *testing.T) {
	ca := newTestCA(t)
	address := serve(t, keep(t, ca, Identity{Kind: Controller, Name: "c1"}, SystemClock{}), ControllerPolicy(), time.Now)
	client, base, err := Client(address, keep(t, ca, Identity{Kind: Host, Name: "h1"}, SystemClock{}), ExpectKind(Controller))
	if err != nil {
		t.Fatal(err)
	}
	if status, body, err := get(t, client, base+drydockv1connect.CoordinationServiceReportProcedure); err != nil || status != 200 || body != "host h1" {
		t.Errorf("got %d %q, %v", status, body, err)
	}
	if status, body, err := get(t, client, base+drydockv1connect.ControllerServiceRunPodProcedure); err != nil || status != 403 {
		t.Errorf("got %d %q, %v", status, body, err)
	}
}

func TestAPeerIsNotTakenForAnother(t *testing.T) {
	ca, foreign := newTestCA(t), newTestCA(t)
	me := keep(t, ca, Identity{Kind: Host, Name: "h1"}, SystemClock{})
	for name, test := range map[string]struct {
		peer   *Keeper
		expect Expect
		ok     bool
	}{
		"a controller for a controller":   {keep(t, ca, Identity{Kind: Controller, Name: "c1"}, SystemClock{}), ExpectKind(Controller), true},
		"a host for itself":               {keep(t, ca, Identity{Kind: Host, Name: "h2"}, SystemClock{}), ExpectHost("h2"), true},
		"a host for a controller":         {keep(t, ca, Identity{Kind: Host, Name: "h2"}, SystemClock{}), ExpectKind(Controller), false},
		"a controller for a host":         {keep(t, ca, Identity{Kind: Controller, Name: "h2"}, SystemClock{}), ExpectHost("h2"), false},
		"a host for another host":         {keep(t, ca, Identity{Kind: Host, Name: "h3"}, SystemClock{}), ExpectHost("h2"), false},
		"an operator for a controller":    {keep(t, ca, Admin(), SystemClock{}), ExpectKind(Controller), false},
		"a controller of some other CA":   {keep(t, foreign, Identity{Kind: Controller, Name: "c1"}, SystemClock{}), ExpectKind(Controller), false},
		"a controller of times gone past": {keep(t, expiredCA(t, ca), Identity{Kind: Controller, Name: "c1"}, SystemClock{}), ExpectKind(Controller), false},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, test.peer, ControllerPolicy(), time.Now)
			client, base, err := Client("https://"+address, me, test.expect)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = get(t, client, base+drydockv1connect.CoordinationServiceReportProcedure)
			if (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// expiredCA is the same CA a year ago.
func expiredCA(t *testing.T, ca *CA) *CA {
	t.Helper()
	past := *ca
	past.now = func() time.Time { return time.Now().AddDate(-1, 0, 0) }
	return &past
}

func TestAStrangersCertificateIsNotAccepted(t *testing.T) {
	ca := newTestCA(t)
	address := serve(t, keep(t, ca, Identity{Kind: Controller, Name: "c1"}, SystemClock{}), ControllerPolicy(), time.Now)
	stranger := keep(t, newTestCA(t), Admin(), SystemClock{})
	// It believes the controller, and so gets as far as showing its own certificate.
	stranger.current.Load().roots.AddCert(ca.cert)
	client, base, err := Client(address, stranger, ExpectKind(Controller))
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := get(t, client, base+drydockv1connect.ControllerServiceListPodsProcedure); err == nil {
		t.Errorf("let in with status %d", status)
	}
}

func TestAnOpenConnectionDoesNotOutliveItsCertificate(t *testing.T) {
	ca := newTestCA(t)
	later := func() time.Time { return time.Now().Add(LeafLifetime + time.Hour) }
	address := serve(t, keep(t, ca, Identity{Kind: Controller, Name: "c1"}, SystemClock{}), ControllerPolicy(), later)
	client, base, err := Client(address, keep(t, ca, Admin(), SystemClock{}), ExpectKind(Controller))
	if err != nil {
		t.Fatal(err)
	}
	if status, body, err := get(t, client, base+drydockv1connect.ControllerServiceListPodsProcedure); err != nil || status != 401 {
		t.Errorf("got %d %q, %v", status, body, err)
	}
}

// stepClock is a clock that tells whom it makes wait how long, and goes on when told.
type stepClock struct {
	now   time.Time
	waits chan time.Duration
	fire  chan time.Time
}

func (c *stepClock) Now() time.Time { return c.now }
func (c *stepClock) After(d time.Duration) <-chan time.Time {
	c.waits <- d
	return c.fire
}

func TestACertificateIsRenewedAfterTwoThirdsOfItsLifeWithoutARestart(t *testing.T) {
	ca := newTestCA(t)
	clock := &stepClock{now: time.Now(), waits: make(chan time.Duration), fire: make(chan time.Time)}
	keeper := keep(t, ca, Identity{Kind: Controller, Name: "c1"}, clock)
	address := serve(t, keeper, ControllerPolicy(), time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	failures := 1
	renew := func(_ context.Context, request []byte) ([]byte, []byte, error) {
		if failures > 0 {
			failures--
			return nil, nil, errors.New("away")
		}
		cert, err := ca.Sign(request, keeper.Identity(), "127.0.0.1")
		return cert, ca.Certificate(), err
	}
	before := keeper.current.Load().cert.Leaf.SerialNumber
	go func() { done <- keeper.Run(ctx, renew, slog.New(slog.DiscardHandler)) }()
	if wait := <-clock.waits; wait < LeafLifetime/2 || wait > LeafLifetime*3/4 {
		t.Errorf("first renewal after %s of %s", wait, LeafLifetime)
	}
	clock.fire <- clock.now
	if wait := <-clock.waits; wait != renewRetry {
		t.Errorf("retry after %s", wait)
	}
	clock.fire <- clock.now
	<-clock.waits
	clock.fire <- clock.now
	<-clock.waits
	after := keeper.current.Load().cert.Leaf.SerialNumber
	if before.Cmp(after) == 0 {
		t.Error("not renewed")
	}
	if reopened, err := OpenKeeper(keeper.dir, clock); err != nil || reopened.current.Load().cert.Leaf.SerialNumber.Cmp(after) != 0 {
		t.Errorf("what is on disk is another certificate, %v", err)
	}
	var served string
	client := tlsClient(keep(t, ca, Admin(), SystemClock{}).ClientTLS(ExpectKind(Controller)))
	response, err := client.Post("https://"+address+drydockv1connect.ControllerServiceListPodsProcedure, "application/json", strings.NewReader("{}"))
	if err == nil {
		served = response.TLS.PeerCertificates[0].SerialNumber.String()
		response.Body.Close()
	}
	if err != nil || served != after.String() {
		t.Errorf("server shows %s, want %s, %v", served, after, err)
	}
	client.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestARenewalForSomebodyElseIsNotUsed(t *testing.T) {
	ca := newTestCA(t)
	keeper := keep(t, ca, Identity{Kind: Host, Name: "h1"}, SystemClock{})
	err := keeper.RenewNow(t.Context(), func(_ context.Context, request []byte) ([]byte, []byte, error) {
		cert, err := ca.Sign(request, Identity{Kind: Host, Name: "h2"})
		return cert, ca.Certificate(), err
	})
	if err == nil || keeper.Identity().Name != "h1" {
		t.Errorf("identity is %s, %v", keeper.Identity(), err)
	}
}

func TestCredentialsAreLoadedFromFilesAndTheirFaultsNamed(t *testing.T) {
	ca := newTestCA(t)
	bundle, err := ca.Issue(Admin())
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := SplitBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	caPath, certPath, keyPath := path("ca", ca.Certificate()), path("cert", cert), path("key", key)
	keeper, err := LoadKeeper(caPath, certPath, keyPath, SystemClock{})
	if err != nil || keeper.Identity() != Admin() || !keeper.TrustedBy(ca) || keeper.TrustedBy(newTestCA(t)) {
		t.Errorf("got %v", err)
	}
	if _, err := LoadKeeper(caPath, certPath, path("other", []byte("x")), SystemClock{}); err == nil {
		t.Error("loaded without a key")
	}
	if _, err := OpenKeeper(filepath.Join(dir, "none"), SystemClock{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestTokensSurviveBeingCopiedAndNothingElse(t *testing.T) {
	token, err := NewToken(newTestCA(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseToken(token.String() + "\n"); err != nil || got != token {
		t.Errorf("got %v", err)
	}
	for _, text := range []string{"", "drydock1", token.String()[1:], token.String() + "x", token.String()[:60], strings.ToUpper(token.String())} {
		if _, err := ParseToken(text); err == nil {
			t.Errorf("accepted %q", text)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("error shows the token: %v", err)
		}
	}
}

func TestATargetThatIsNoneIsNamed(t *testing.T) {
	for _, target := range []string{"", "http://h:1", "https://h", "https://h:1/path", "h"} {
		if _, _, err := Client(target, keep(t, newTestCA(t), Admin(), SystemClock{}), ExpectKind(Controller)); err == nil {
			t.Errorf("accepted %q", target)
		}
	}
	if _, _, err := Client("https://h:1", nil, nil); err == nil || !strings.Contains(err.Error(), "unix socket") {
		t.Errorf("got %v", err)
	}
}

func TestACallerOnASocketIsItsUID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := FromContext(r.Context())
		if _, err := w.Write([]byte(r.Proto + " " + id.String())); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewUnstartedServer(NewGuard(ControllerPolicy(), time.Now).Socket(echo))
	server.Listener.Close()
	server.Listener = listener
	server.Config.ConnContext = SocketContext
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	client, base, err := Client("unix://"+path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, body, err := get(t, client, base+drydockv1connect.ControllerServiceListPodsProcedure); err != nil || body != "HTTP/2.0 uid "+strconv.Itoa(os.Getuid()) {
		t.Errorf("got %q, %v", body, err)
	}
	if status, _, err := get(t, client, base+drydockv1connect.CoordinationServiceReportProcedure); err != nil || status != 403 {
		t.Errorf("an operator reports: %d, %v", status, err)
	}
}
