package owner_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"drydock/migrate/owner"
)

// startEtcd runs a server of one member on a unix socket, and returns a client of it and what stops it.
func startEtcd(t *testing.T) (*clientv3.Client, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "owner-etcd-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "data")
	cfg.LogLevel = "panic"
	client, peer := url.URL{Scheme: "unix", Path: filepath.Join(dir, "client")}, url.URL{Scheme: "unix", Path: filepath.Join(dir, "peer")}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(server.Close)
	t.Cleanup(stop)
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatal("etcd is not ready after a minute")
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{client.String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, stop
}

func TestEtcdKeepsRecordsLikeMemoryDoes(t *testing.T) {
	c, _ := startEtcd(t)
	store := owner.NewEtcd(c, "/drydock/owner/")
	if _, err := store.Get(t.Context(), "p"); !errors.Is(err, owner.ErrNotFound) {
		t.Fatalf("without a record: %v", err)
	}
	g, epoch := running(t, store)
	begin(t, g, epoch)
	r := must(t)(g.Decide(t.Context(), "p", "m1", owner.Commit))
	got := must(t)(store.Get(t.Context(), "p"))
	if got.Revision != r.Revision || got.Owner != h2 || got.Outcome != owner.Commit {
		t.Errorf("decided %+v, stored %+v", r, got)
	}
	stale := got
	stale.Revision--
	if _, err := store.CompareAndSwap(t.Context(), stale); !errors.Is(err, owner.ErrConflict) {
		t.Errorf("a write on an old revision: %v", err)
	}
	stale.Revision = 0
	if _, err := store.CompareAndSwap(t.Context(), stale); !errors.Is(err, owner.ErrConflict) {
		t.Errorf("a second creation: %v", err)
	}
}

func TestEtcdRefusesALeaderThatWasReplaced(t *testing.T) {
	c, _ := startEtcd(t)
	lead := func() (*concurrency.Election, *owner.Etcd) {
		s, err := concurrency.NewSession(c)
		if err != nil {
			t.Fatal(err)
		}
		e := concurrency.NewElection(s, "/drydock/leader")
		if err := e.Campaign(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		return e, owner.NewEtcd(c, "/drydock/owner/").Guarded(e.Key(), e.Rev())
	}
	e, old := lead()
	g, epoch := running(t, old)
	if err := e.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	lead()
	if _, err := g.Stop(t.Context(), "p", epoch); !errors.Is(err, owner.ErrDeposed) {
		t.Errorf("got %v, want ErrDeposed", err)
	}
	if r := must(t)(g.Get(t.Context(), "p")); r.State != owner.Running {
		t.Errorf("the pod is %s", r.State)
	}
}

func TestAnEtcdThatIsAwayLeavesTheOutcomeUnknown(t *testing.T) {
	c, stop := startEtcd(t)
	g, epoch := running(t, owner.NewEtcd(c, "/drydock/owner/"))
	begin(t, g, epoch)
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, err := g.Decide(ctx, "p", "m1", owner.Commit); !errors.Is(err, owner.ErrUnknown) || r != (owner.Record{}) {
		t.Errorf("got %+v, %v; want no record and ErrUnknown", r, err)
	}
	if v := g.Look(ctx, "p"); v.Known {
		t.Errorf("got %+v, want unknown", v)
	}
}
