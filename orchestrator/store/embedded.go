package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Limits of the embedded etcd. History is only needed by watches, which are never far behind.
const (
	memberName   = "drydock"
	quota        = 4 << 30
	retention    = "10m"
	startTimeout = 60 * time.Second
	// tick and election are in milliseconds: with no other member there is nobody to wait for.
	tick     = 20
	election = 200
	// With others there is a network between them.
	sharedTick     = 100
	sharedElection = 1000
	// A start replays the log from the last snapshot, while etcd drops what lies more than catchUp entries back from memory. Were
	// there more to replay than that, an election in the middle of it would look for what is dropped, and etcd panics ("error
	// scanning unapplied entries"): with its own numbers, 10,000 and 5,000, it does so once in a while.
	snapshotCount = 1000
	catchUp       = 5000
	// waitNotice is how often the log says that the others are waited for.
	waitNotice = 15 * time.Second
)

// openEmbedded runs an etcd that has the controller as its only client, which calls it directly. It listens nowhere, but for the
// other parts of a store that is shared.
func openEmbedded(ctx context.Context, config Config) (*Store, error) {
	lock, err := lockDir(config.DataDir)
	if err != nil {
		return nil, err
	}
	server, err := startEmbedded(ctx, config)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	s := &Store{client: v3client.New(server.Server), etcd: server, lock: lock, log: config.Log, shared: config.Membership != nil}
	if s.shared {
		if err := s.announce(ctx, config.Membership.Address); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func startEmbedded(ctx context.Context, config Config) (*embed.Etcd, error) {
	dir := etcdDir(config.DataDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", err)
	}
	settings := embed.NewConfig()
	settings.Name = memberName
	settings.Dir = dir
	settings.ListenPeerUrls, settings.ListenClientUrls = []url.URL{}, []url.URL{}
	settings.AdvertisePeerUrls, settings.AdvertiseClientUrls = memberURLs(), memberURLs()
	settings.InitialCluster = initialCluster()
	settings.QuotaBackendBytes = quota
	settings.AutoCompactionMode = embed.CompactorModePeriodic
	settings.AutoCompactionRetention = retention
	settings.SnapshotCount, settings.SnapshotCatchUpEntries = snapshotCount, catchUp
	settings.TickMs, settings.ElectionMs = tick, election
	if config.Membership != nil {
		if err := config.Membership.apply(settings); err != nil {
			return nil, err
		}
	}
	ready := new(atomic.Bool)
	settings.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(config.Log, ready))
	server, err := embed.StartEtcd(settings)
	if err != nil {
		return nil, fmt.Errorf("start the embedded store in %s: %w", dir, err)
	}
	if err := awaitReady(ctx, server, config); err != nil {
		server.Close()
		return nil, fmt.Errorf("start the embedded store in %s: %w", dir, err)
	}
	ready.Store(true)
	return server, nil
}

// awaitReady waits until the store answers: a shared one as long as it takes until more than half of its parts are there.
func awaitReady(ctx context.Context, server *embed.Etcd, config Config) error {
	limit := time.After(startTimeout)
	if config.Membership != nil {
		limit = nil
	}
	for {
		select {
		case <-server.Server.ReadyNotify():
			return nil
		case err := <-server.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("not ready after %s", startTimeout)
		case <-time.After(waitNotice):
			if config.Log != nil {
				config.Log.Warn("the store waits for those of other controllers: more than half must be there")
			}
		}
	}
}

func etcdDir(dataDir string) string { return filepath.Join(dataDir, "etcd") }

// memberURLs is where etcd believes that its only member is; nothing listens or connects there.
func memberURLs() []url.URL { return []url.URL{{Scheme: "http", Host: "localhost:2380"}} }

func initialCluster() string { return memberName + "=" + memberURLs()[0].String() }

// dirLock keeps a second process from the same data directory.
type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is in use by another controller: stop it first: %w", dir, err), file.Close())
	}
	return &dirLock{file: file}, nil
}

func (l *dirLock) release() error { return l.file.Close() }
