package orchestrator

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/pki"
	"drydock/internal/version"
	"drydock/orchestrator/store"
)

func (l *lab) token(host string) string {
	l.Helper()
	response, err := l.admin.CreateJoinToken(l.Context(), connect.NewRequest(&drydockv1.CreateJoinTokenRequest{Host: host}))
	l.must(err)
	return response.Msg.GetToken()
}

func (l *lab) tryJoin(name, boot, token string) error {
	l.Helper()
	h := &fakeHost{l: l, name: name, boot: boot, address: "127.0.0.1:1"}
	_, _, err := pki.Join(l.Context(), h.request(token), pki.SystemClock{})
	return err
}

func TestATokenLetsItsHostJoinOnce(t *testing.T) {
	l := newLab(t)
	token := l.token("h1")
	if err := l.tryJoin("h2", "b", token); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("another host: %v", err)
	}
	stolen, err := pki.ParseToken(token)
	l.must(err)
	stolen.Secret[0]++
	if err := l.tryJoin("h1", "b", stolen.String()); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("a wrong secret: %v", err)
	}
	if err := l.tryJoin("h1", "b", "nonsense"); err == nil {
		t.Error("nonsense was accepted")
	}
	l.must(l.tryJoin("h1", "b", token))
	err = l.tryJoin("h1", "b", token)
	if connect.CodeOf(err) != connect.CodeUnauthenticated || !contains(err.Error(), "drydock host join") {
		t.Errorf("used twice: %v", err)
	}
	if left, err := store.List[drydockv1.TokenRecord](t.Context(), l.store, keyTokens); err != nil || len(left) != 0 {
		t.Errorf("tokens left: %v, %v", left, err)
	}
}

func TestATokenExpires(t *testing.T) {
	l := newLab(t)
	response, err := l.createJoinToken(t.Context(), "h1", time.Nanosecond)
	l.must(err)
	if err := l.tryJoin("h1", "b", response.GetToken()); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("got %v", err)
	}
	for _, ttl := range []time.Duration{-time.Second, 365 * 24 * time.Hour} {
		if _, err := l.createJoinToken(t.Context(), "h1", ttl); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("ttl %s: %v", ttl, err)
		}
	}
}

func TestATokenIsNotSentToAControllerOfAnotherCA(t *testing.T) {
	l := newLab(t)
	other, err := pki.NewCA(time.Now)
	l.must(err)
	token, err := pki.NewToken(other)
	l.must(err)
	if err := l.tryJoin("h1", "b", token.String()); err == nil || !contains(err.Error(), "not the one that the token is for") {
		t.Errorf("got %v", err)
	}
}

func TestAHostThatHoldsPodsIsNotReplacedByAnotherMachine(t *testing.T) {
	l := newLab(t)
	l.join("h1")
	l.image("")
	l.mustRun("web", "")
	if err := l.tryJoin("h1", "another-boot", l.token("h1")); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("got %v", err)
	}
	_, err := l.admin.RemoveHost(t.Context(), connect.NewRequest(&drydockv1.RemoveHostRequest{Name: "h1"}))
	l.refused(err, "it holds pod web")
	l.must(l.tryJoin("h1", "h1-boot-1", l.token("h1")))
}

func TestARemovedHostIsNoLongerHeard(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	_, err := l.admin.RemoveHost(t.Context(), connect.NewRequest(&drydockv1.RemoveHostRequest{Name: "h1"}))
	l.must(err)
	_, err = h.coord.Report(t.Context(), connect.NewRequest(&drydockv1.ReportRequest{BootId: "b"}))
	if connect.CodeOf(err) != connect.CodePermissionDenied || !contains(err.Error(), "removed") {
		t.Errorf("got %v", err)
	}
}

func TestAHostRenewsItsOwnCertificateAndNobodyElses(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	client, base, err := pki.Client("https://127.0.0.1:"+l.port, h.keeper, pki.ExpectKind(pki.Controller))
	l.must(err)
	defer client.CloseIdleConnections()
	joins := drydockv1connect.NewJoinServiceClient(client, base)
	l.must(h.keeper.RenewNow(t.Context(), pki.RenewWith(joins)))
	if got := h.keeper.Identity(); got != (pki.Identity{Kind: pki.Host, Name: "h1"}) {
		t.Errorf("identity is %s", got)
	}
	if _, err := drydockv1connect.NewControllerServiceClient(client, base).ListPods(t.Context(), connect.NewRequest(&drydockv1.ListPodsRequest{})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a host may list pods: %v", err)
	}
}

func TestOperatorsUseTheAdminCredentialsOverTLS(t *testing.T) {
	l := newLab(t)
	admin := filepath.Join(l.dir, "data", "admin")
	keeper, err := pki.LoadKeeper(filepath.Join(admin, "ca.crt"), filepath.Join(admin, "admin.crt"), filepath.Join(admin, "admin.key"), pki.SystemClock{})
	l.must(err)
	client, base, err := pki.Client("https://127.0.0.1:"+l.port, keeper, pki.ExpectKind(pki.Controller))
	l.must(err)
	defer client.CloseIdleConnections()
	told, err := drydockv1connect.NewControllerServiceClient(client, base).GetVersion(t.Context(), connect.NewRequest(&drydockv1.GetVersionRequest{}))
	if err != nil || told.Msg.GetLeader() != "c1" || told.Msg.GetApi() != version.API {
		t.Errorf("got %v, %v", told, err)
	}
}

func TestTheCAAndTheCertificatesOutliveTheController(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	pin := l.ca.Pin()
	file, err := os.ReadFile(filepath.Join(l.dir, "data", "admin", "admin.crt"))
	l.must(err)
	l.stop()
	l.start()
	if l.ca.Pin() != pin {
		t.Error("another CA")
	}
	again, err := os.ReadFile(filepath.Join(l.dir, "data", "admin", "admin.crt"))
	if err != nil || string(again) != string(file) {
		t.Errorf("another admin certificate, %v", err)
	}
	before := func() int { h.mu.Lock(); defer h.mu.Unlock(); return h.answered }()
	l.eventually("the host is heard again", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.answered > before })
	for _, path := range []string{"ca.pem", "tls/identity.pem", "admin/admin.key"} {
		if info, err := os.Stat(filepath.Join(l.dir, "data", path)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
}

func TestARestoredBackupKnowsItsHostsAndPods(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	l.image("")
	l.mustRun("web", "")
	term := l.currentTerm()
	stream, err := l.admin.BackupStore(t.Context(), connect.NewRequest(&drydockv1.BackupStoreRequest{}))
	l.must(err)
	var backup []byte
	for stream.Receive() {
		backup = append(backup, stream.Msg().GetData()...)
	}
	l.must(errors.Join(stream.Err(), stream.Close()))
	l.stop()
	file := filepath.Join(l.dir, "backup")
	l.must(os.WriteFile(file, backup, 0o600))
	data := filepath.Join(l.dir, "data")
	l.must(os.Rename(data, data+".old"))
	l.must(store.Restore(file, data, nil))
	l.start()
	if after := l.currentTerm(); after <= term {
		t.Errorf("term %d after %d: hosts would not obey", after, term)
	}
	l.eventually("the pod runs and its host reports", func() bool { return l.view("web").GetPhase() == phaseRunning })
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started["web"] != 1 {
		t.Errorf("started %d times", h.started["web"])
	}
}

func (l *lab) currentTerm() int64 {
	l.Helper()
	r, err := l.leading(l.Context())
	l.must(err)
	return r.term.Revision()
}

func TestASecondControllerPassesOperatorsOnToTheLeader(t *testing.T) {
	l := newLab(t)
	cfg := l.settings()
	cfg.Name, cfg.Listen, cfg.Socket, cfg.DataDir = "c2", "127.0.0.1:0", filepath.Join(l.dir, "s2"), filepath.Join(l.dir, "data2")
	keeper, err := ownCertificate(cfg, l.ca, pki.SystemClock{})
	l.must(err)
	on, err := listen(t.Context(), cfg.Listen, cfg.Socket)
	l.must(err)
	second := newController(cfg, l.log, l.store, l.ca, keeper)
	ended := make(chan error, 1)
	ctx, cancel := contextWithCancel(t)
	go func() { ended <- second.run(ctx, on) }()
	client, base, err := pki.Client("unix://"+cfg.Socket, nil, nil)
	l.must(err)
	defer client.CloseIdleConnections()
	operator := drydockv1connect.NewControllerServiceClient(client, base)
	told, err := operator.GetVersion(t.Context(), connect.NewRequest(&drydockv1.GetVersionRequest{}))
	if err != nil || told.Msg.GetController() != "c1" || told.Msg.GetLeader() != "c1" {
		t.Errorf("got %v, %v", told, err)
	}
	stream, err := operator.RunPod(t.Context(), connect.NewRequest(&drydockv1.RunPodRequest{Spec: &drydockv1.PodSpec{
		Name: "web", Containers: []*drydockv1.Container{{Image: "none"}},
	}}))
	l.must(err)
	for stream.Receive() {
		t.Errorf("got %v", stream.Msg())
	}
	l.refused(stream.Err(), "image none is not known")
	l.must(stream.Close())
	// The first loses its leadership; the second leads.
	r, err := l.leading(t.Context())
	l.must(err)
	_, err = l.store.Client().Delete(t.Context(), r.term.Key())
	l.must(err)
	l.eventually("the second leads", func() bool {
		told, err := operator.GetVersion(t.Context(), connect.NewRequest(&drydockv1.GetVersionRequest{}))
		return err == nil && told.Msg.GetController() == "c2"
	})
	cancel()
	l.must(<-ended)
}

func TestASocketOfADeadControllerIsReplacedAndOneInUseIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	live, err := listenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listenSocket(t.Context(), path); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
}

func TestAHostMoreThanOneVersionApartIsRefusedAndToldWhatToUpgrade(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	for _, c := range []struct {
		api     uint32
		refused bool
	}{{version.API - 1, false}, {version.API, false}, {version.API + 1, false}, {version.API + 2, true}} {
		token := l.token("h2")
		request := (&fakeHost{l: l, name: "h2", boot: "b", address: "127.0.0.1:1"}).request(token)
		request.API = c.api
		_, _, err := pki.Join(t.Context(), request, pki.SystemClock{})
		if (err != nil) != c.refused {
			t.Errorf("a host of API %d joins: %v", c.api, err)
		}
		report := &drydockv1.ReportRequest{BootId: h.boot, Address: h.address, Info: &drydockv1.HostInfo{Api: c.api}}
		answer, rerr := h.coord.Report(t.Context(), connect.NewRequest(report))
		if (rerr != nil) != c.refused {
			t.Errorf("a host of API %d reports: %v", c.api, rerr)
		}
		if !c.refused && answer.Msg.GetApi() != version.API {
			t.Errorf("the controller says that it speaks %d, not %d", answer.Msg.GetApi(), version.API)
		}
		for _, err := range []error{err, rerr} {
			if c.refused && (connect.CodeOf(err) != connect.CodeFailedPrecondition || !contains(err.Error(), "upgrade")) {
				t.Errorf("API %d: got %v", c.api, err)
			}
		}
	}
}
