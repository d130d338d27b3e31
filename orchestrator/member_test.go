package orchestrator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/config"
	"drydock/internal/pki"
)

func TestAControllersTokenIsGoodOnceAndForItAlone(t *testing.T) {
	t.Parallel()
	c := newEnsemble(t, "c1")
	first, second := c.all["c1"], c.add("c2")
	c.invite(first, second)
	text, err := os.ReadFile(second.cfg.Join.TokenFile)
	c.must(err)
	token, err := pki.ParseToken(string(text))
	c.must(err)
	client, base, err := pki.PinnedClient("https://"+first.cfg.Listen, token, pki.SystemClock{})
	c.must(err)
	t.Cleanup(client.CloseIdleConnections)
	service := drydockv1connect.NewClusterServiceClient(client, base)
	ask := func(name, token string) error {
		_, err := service.JoinController(t.Context(), connect.NewRequest(&drydockv1.JoinControllerRequest{
			Token: token, Name: name, Peer: second.cfg.Etcd.Peer, Api: 1,
		}))
		return err
	}
	if err := ask("c3", string(text)); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("another controller's: %v", err)
	}
	stolen := token
	stolen.Secret[0]++
	if err := ask("c2", stolen.String()); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("a wrong secret: %v", err)
	}
	joins := drydockv1connect.NewJoinServiceClient(client, base)
	if _, err := joins.Join(t.Context(), connect.NewRequest(&drydockv1.JoinRequest{
		Token: string(text), Host: "c2", Address: "127.0.0.1:1", BootId: "b", Api: 1,
	})); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("a host joins with it: %v", err)
	}
	c.start("c2")
	c.await("c2 has a vote", func() bool { return c.states()["c2"] == controllerReady })
	if err := ask("c2", string(text)); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("used twice: %v", err)
	}
	if _, err := first.CreateControllerToken(t.Context(), connect.NewRequest(&drydockv1.CreateControllerTokenRequest{Name: "c2"})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a second c2: %v", err)
	}
	if _, err := first.RemoveController(t.Context(), connect.NewRequest(&drydockv1.RemoveControllerRequest{Name: "c2"})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("one that lives is removed: %v", err)
	}
	if _, err := first.RemoveController(t.Context(), connect.NewRequest(&drydockv1.RemoveControllerRequest{Name: "c9"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("one that is not there is removed: %v", err)
	}
	c.strangersStayOut()
}

// strangersStayOut shows the store certificates of the CA that are not a store's.
func (c *ensemble) strangersStayOut() {
	c.Helper()
	first := c.all["c1"]
	bundle, err := os.ReadFile(caFile(first.cfg.DataDir))
	c.must(err)
	ca, err := pki.ParseCA(bundle, time.Now)
	c.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Certificate())
	dial := func(bundle []byte, err error) error {
		c.must(err)
		cert, key, err := pki.SplitBundle(bundle)
		c.must(err)
		pair, err := tls.X509KeyPair(cert, key)
		c.must(err)
		dialer := &tls.Dialer{Config: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
		conn, err := dialer.DialContext(c.Context(), "tcp", first.cfg.Etcd.Peer)
		if err != nil {
			return err
		}
		defer conn.Close()
		// In TLS 1.3 a client learns of its refusal with the first answer.
		_, _ = conn.Write([]byte("GET /version HTTP/1.1\r\nHost: store\r\n\r\n"))
		c.must(conn.SetReadDeadline(time.Now().Add(20 * time.Second)))
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	for _, id := range []pki.Identity{{Kind: pki.Host, Name: "h1"}, {Kind: pki.User, Name: "anna", Rights: pki.AdminRights}, {Kind: pki.Controller, Name: "c1"}} {
		if err := dial(ca.Issue(id, "127.0.0.1", "drydock store")); err == nil {
			c.Errorf("the store lets %s in", id)
		}
	}
	if err := dial(ca.IssueStore("127.0.0.1")); err != nil {
		c.Errorf("the store does not let another one in: %v", err)
	}
}

func TestAStoreThatWasAloneBecomesOneThatOthersJoin(t *testing.T) {
	t.Parallel()
	c := newEnsemble(t)
	c.order = []string{"c1", "c2"}
	alone := c.add("c1")
	peer := alone.cfg.Etcd.Peer
	alone.cfg.Etcd.Peer = ""
	c.start("c1")
	c.leader()
	c.must(c.addUser(t.Context(), "c1", "anna"))
	_, err := alone.CreateControllerToken(t.Context(), connect.NewRequest(&drydockv1.CreateControllerTokenRequest{Name: "c2"}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !contains(err.Error(), "etcd.peer") {
		t.Errorf("a token of a controller with a store of its own: %v", err)
	}
	c.stop("c1")
	alone.cfg.Etcd.Peer = peer
	c.start("c1")
	c.leader()
	c.invite(alone, c.add("c2"))
	c.start("c2")
	c.await("c2 has a vote", func() bool { return c.states()["c2"] == controllerReady })
	c.stop("c1")
	// Half of the parts is not enough: nothing is decided until the other one is back.
	c.start("c1")
	c.leader()
	users, err := c.all["c2"].ListUsers(t.Context(), connect.NewRequest(&drydockv1.ListUsersRequest{}))
	if err != nil || len(users.Msg.GetUsers()) != 1 || users.Msg.GetUsers()[0].GetName() != "anna" {
		t.Errorf("got %v, %v", users, err)
	}
}

// stop ends a controller as systemd does.
func (c *ensemble) stop(name string) {
	c.Helper()
	m := c.all[name]
	c.must(m.process.Signal(os.Interrupt))
	select {
	case <-m.ended:
	case <-time.After(20 * time.Second):
		c.Fatalf("%s does not end", name)
	}
	m.process = nil
}

func TestAControllerThatCannotJoinSaysWhy(t *testing.T) {
	cfg, err := config.LoadController("", nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.DataDir, cfg.Etcd.Peer = "c2", t.TempDir(), "127.0.0.1:7442"
	cfg.Join = config.ControllerJoin{Controllers: []string{"https://127.0.0.1:1"}, TokenFile: filepath.Join(cfg.DataDir, "token")}
	if _, err := membership(t.Context(), cfg, cfg.Log.Logger(t.Output())); err == nil || !contains(err.Error(), "drydock controller join c2") {
		t.Errorf("without token: %v", err)
	}
	if err := os.WriteFile(cfg.Join.TokenFile, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := membership(t.Context(), cfg, cfg.Log.Logger(t.Output())); err == nil || !contains(err.Error(), "malformed") {
		t.Errorf("with nonsense: %v", err)
	}
	ca, err := pki.NewCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pki.NewToken(ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Join.TokenFile, []byte(token.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := membership(ctx, cfg, cfg.Log.Logger(t.Output())); err == nil {
		t.Error("it has joined nobody")
	}
}
