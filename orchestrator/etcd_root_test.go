//go:build root

package orchestrator

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/internal/config"
	"drydock/internal/pki"
	"drydock/orchestrator/store"
)

// startEtcd runs Debian's etcd, which takes clients with a certificate of its CA only, and returns how to reach it.
func startEtcd(t *testing.T) config.Etcd {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.NewCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	server, serverKey := issue(t, dir, "server", ca, pki.Identity{Kind: pki.Controller, Name: "etcd"}, "127.0.0.1")
	client, clientKey := issue(t, dir, "client", ca, pki.Admin())
	trusted := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(trusted, ca.Certificate(), 0o600); err != nil {
		t.Fatal(err)
	}
	clients, peers := "https://"+freeAddress(t), "http://"+freeAddress(t)
	cmd := exec.Command("etcd", "--name", "alone", "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "alone="+peers,
		"--cert-file", server, "--key-file", serverKey, "--client-cert-auth", "--trusted-ca-file", trusted)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; `scripts/bootstrap lab` installs it", err)
	}
	t.Cleanup(func() {
		var ended *exec.ExitError
		if err := errors.Join(cmd.Process.Kill(), cmd.Wait()); err != nil && !errors.As(err, &ended) {
			t.Error(err)
		}
	})
	return config.Etcd{Endpoints: []string{clients}, CA: trusted, Cert: client, Key: clientKey}
}

func issue(t *testing.T, dir, name string, ca *pki.CA, id pki.Identity, addresses ...string) (cert, key string) {
	t.Helper()
	bundle, err := ca.Issue(id, addresses...)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := pki.SplitBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	if err := errors.Join(os.WriteFile(cert, certPEM, 0o600), os.WriteFile(key, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAnExternalStoreOutlivesItsControllers(t *testing.T) {
	l := newLabOn(t, startEtcd(t))
	h1 := l.join("h1")
	l.image("")
	before := l.mustRun("web", "")
	l.stop()
	// Another machine takes over: nothing of the first controller's data directory is there.
	l.must(os.Rename(filepath.Join(l.dir, "data"), filepath.Join(l.dir, "lost")))
	l.start()
	l.eventually("the host reports to the new controller", func() bool { return l.view("web").GetPhase() == phaseRunning })
	if after := l.view("web"); after.GetHost() != "h1" || after.GetEpoch() != before.GetEpoch() || !h1.runs("web") {
		t.Errorf("before %v, after %v", before, after)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "data", "etcd")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store of its own beside the external one: %v", err)
	}
}

func TestOfTwoControllersOnAnExternalStoreOneLeadsWhenTheOtherIsKilledOrPaused(t *testing.T) {
	t.Parallel()
	newEnsembleOn(t, startEtcd(t), "c1", "c2").loseLeaders()
}

func TestAnExternalStoreThatDoesNotLetTheControllerInIsNamedWithARemedy(t *testing.T) {
	etcd := startEtcd(t)
	for name, spoil := range map[string]func(*config.Etcd){
		"without a certificate": func(e *config.Etcd) { e.Cert, e.Key = "", "" },
		"nobody there":          func(e *config.Etcd) { e.Endpoints = []string{"https://" + freeAddress(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Controller{Etcd: etcd}
			spoil(&cfg.Etcd)
			db, err := store.Open(t.Context(), storeConfig(cfg, nil, nil))
			if err == nil {
				t.Fatal(errors.Join(errors.New("it opened"), db.Close()))
			}
			for _, words := range []string{fmt.Sprint(cfg.Etcd.Endpoints), "check `etcd.endpoints`"} {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q does not say %q", err, words)
				}
			}
		})
	}
}
