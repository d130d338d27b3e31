package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/api/drydock/v1/drydockv1connect"
)

func wants(t *testing.T, r result, status int, stderr ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("exit status %d, not %d", r.status, status)
	}
	for _, text := range stderr {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("stderr lacks %q", text)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%sstderr:\n%s", r.stdout, r.stderr)
	}
}

func TestAControllerThatDoesNotAnswerIsNamedWithARemedy(t *testing.T) {
	p := newPool(t)
	wants(t, p.run(t, "pod", "ls", "--server", "unix://"+p.dir+"/none.sock"), statusFailed,
		"drydock: no controller answers at unix://"+p.dir+"/none.sock", "no such file or directory", "remedy: start it", "--context")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	for _, args := range [][]string{
		{"migrate", "redis", "--to", "h2"}, {"pod", "exec", "redis", "sh"}, {"image", "import", p.dir + "/ca.pem"}, {"status"},
		{"host", "drain", "h1"}, {"store", "backup", p.dir + "/backup"}, {"pod", "logs", "redis"}, {"version"},
	} {
		wants(t, p.run(t, append([]string{"--server", "https://" + listener.Addr().String()}, args...)...), statusFailed,
			"drydock: no controller answers at https://127.0.0.1", "connection refused")
	}
}

func TestWithoutAContextTheOperatorIsToldWhereToGetOne(t *testing.T) {
	newHome(t)
	r := runAt(t.Context(), nil, "pod", "ls")
	wants(t, r, statusMisuse, "drydock: no such context", "drydock lab up", "--server")
}

func TestTheContextInUseIsNamedWhenItsControllerIsGone(t *testing.T) {
	p := newPool(t)
	if err := os.Remove(p.socket); err != nil {
		t.Fatal(err)
	}
	wants(t, p.run(t, "host", "ls"), statusFailed, `(context "test")`)
}

func TestAClientCertificateFromAnotherCAIsNotAccepted(t *testing.T) {
	p := newPool(t)
	other := newAuthority(t)
	dir := filepath.Join(p.dir, "other")
	write(t, filepath.Join(dir, "x"), "")
	other.save(t, dir, "stranger", other.issue(t, "drydock://role/operator"))
	wants(t, p.run(t, "pod", "ls", "--cert", dir+"/stranger.pem", "--key", dir+"/stranger.key"), statusFailed,
		"does not accept our certificate", "--cert and --key")
}

func TestAServerThatIsNoControllerOfTheCAIsNotTrusted(t *testing.T) {
	p := newPool(t)
	host, foreign := filepath.Join(p.dir, "host.sock"), filepath.Join(p.dir, "foreign.sock")
	p.serve(t, host, p.ca.issue(t, "drydock://host/h1"))
	p.serve(t, foreign, newAuthority(t).issue(t, "drydock://controller/c1"))
	wants(t, p.run(t, "pod", "ls", "--server", "unix://"+host), statusFailed, "not to be trusted: its certificate is not a controller's")
	wants(t, p.run(t, "pod", "ls", "--server", "unix://"+foreign), statusFailed, "not to be trusted: x509: certificate signed by unknown authority")
	if asked := p.controller.asked(); len(asked) > 0 {
		t.Errorf("was asked all the same: %v", asked)
	}
}

func TestASocketWithoutCredentialsIsSpokenToInTheClear(t *testing.T) {
	home := newHome(t)
	socket := filepath.Join(home, "plain.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_, handler := drydockv1connect.NewControllerServiceHandler(&fakeController{})
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	wants(t, runAt(t.Context(), nil, "--server", "unix://"+socket, "pod", "exec", "redis", "echo"), statusDone)
}

func TestACallThatIsNotAnsweredEndsAtTheTimeout(t *testing.T) {
	p := newPool(t)
	wants(t, p.run(t, "pod", "inspect", "slow", "--timeout", "300ms"), statusFailed,
		"drydock: no answer from the controller within 300 ms", "--timeout")
}

func TestInterruptingAMigrationSaysThatItGoesOn(t *testing.T) {
	p := newPool(t)
	p.controller.began = make(chan struct{})
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-p.controller.began
		interrupt()
	}()
	wants(t, runAt(ctx, nil, "migrate", "redis", "--to", "h2"), statusFailed,
		"drydock: interrupted; ", " of redis ", "goes on", "remedy: ", "drydock migration ")
}

func TestLosingTheControllerDuringAMigrationSaysThatItGoesOn(t *testing.T) {
	p := newPool(t)
	p.controller.began = make(chan struct{})
	p.controller.cut = true
	wants(t, p.run(t, "migrate", "redis", "--to", "h2"), statusFailed,
		"drydock: lost the connection to the controller", "migration m-1 of redis goes on", "drydock migration show m-1 --watch")
}

func TestAMigrationAndARolloutAreWatchedOnWithTheNextController(t *testing.T) {
	p := newPool(t)
	p.controller.began = make(chan struct{})
	p.controller.cut = true
	wants(t, runPatiently(t.Context(), nil, time.Minute, "migrate", "redis", "--to", "h2"), statusDone)
	if p.controller.times("MigratePod") != 1 || p.controller.times("GetMigration") == 0 {
		t.Errorf("asked %v", p.controller.asked())
	}
	wants(t, runPatiently(t.Context(), nil, time.Minute, "patch", "web"), statusDone)
	if p.controller.times("StartRollout") != 1 || p.controller.times("WatchRollout") != 2 {
		t.Errorf("asked %v", p.controller.asked())
	}
}

func TestACommandThatWatchesGivesUpWhereNoControllerComes(t *testing.T) {
	p := newPool(t)
	p.controller.began = make(chan struct{})
	p.controller.cut, p.controller.gone = true, true
	wants(t, runPatiently(t.Context(), nil, time.Millisecond, "migrate", "redis", "--to", "h2"), statusFailed,
		"drydock: lost the connection to the controller", "migration m-1 of redis goes on")
}
