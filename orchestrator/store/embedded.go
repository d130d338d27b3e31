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
)

// openEmbedded runs an etcd of one member that listens nowhere: the controller is its only client, and calls it directly.
func openEmbedded(ctx context.Context, config Config) (*Store, error) {
	lock, err := lockDir(config.DataDir)
	if err != nil {
		return nil, err
	}
	server, err := startEmbedded(ctx, config)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return &Store{client: v3client.New(server.Server), etcd: server, lock: lock, log: config.Log}, nil
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
	settings.TickMs, settings.ElectionMs = tick, election
	ready := new(atomic.Bool)
	settings.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(config.Log, ready))
	server, err := embed.StartEtcd(settings)
	if err != nil {
		return nil, fmt.Errorf("start the embedded store in %s: %w", dir, err)
	}
	select {
	case <-server.Server.ReadyNotify():
		ready.Store(true)
		return server, nil
	case err = <-server.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startTimeout):
		err = fmt.Errorf("not ready after %s", startTimeout)
	}
	server.Close()
	return nil, fmt.Errorf("start the embedded store in %s: %w", dir, err)
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
