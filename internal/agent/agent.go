// Package agent is the server on every host: a thin layer over pods, migrate and status that speaks to controllers and to
// other agents, restarts containers by policy, and reports. It may be killed and started again at any time: pods, CRIU and
// containerd's shims live on without it, and Run takes up what it finds.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"drydock/internal/config"
	"drydock/internal/faultpoint"
	"drydock/internal/pki"
	"drydock/internal/version"
	"drydock/migrate"
	"drydock/migrate/owner"
	"drydock/patch"
	"drydock/pods"
	"drydock/pods/probe"
	"drydock/status"

	"golang.org/x/sync/errgroup"
)

// namespace of containerd that holds Drydock's pods.
const namespace = "drydock"

// agent is one host's.
type agent struct {
	cfg     config.Agent
	log     *slog.Logger
	here    owner.Place
	keeper  *pki.Keeper
	pods    *pods.Runtime
	engine  *migrate.Engine
	fence   *owner.Fence
	store   *storeClient
	peers   *peerSet
	host    *status.Host
	network *podNetwork
	// probing and answering let one probe at a time go to, and come from, each host.
	probing, answering holds
	watching           *supervisor
	shims              *shims
	fresh              *status.Fresh
	patch              *patch.Host
	proofs             *probe.Watch
	// unguarded: others may reboot the host, though pods are on it. Only reports read and write it.
	unguarded bool
	// reporting is held while a report is made and sent.
	reporting sync.Mutex
	// statusWanted is whether the controller lacks this host's status, as it answered the last report.
	statusWanted bool
}

// Run serves until ctx ends. It joins the controller first, where the host has no certificate yet.
func Run(ctx context.Context, cfg config.Agent) error {
	log := cfg.Log.Logger(os.Stderr)
	boot, err := bootID()
	if err != nil {
		return err
	}
	for _, dir := range []string{cfg.DataDir, cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("directory of the agent: %w", err)
		}
	}
	keeper, err := join(ctx, cfg, boot, log)
	if err != nil {
		return err
	}
	a := &agent{cfg: cfg, log: log, here: owner.Place{Host: cfg.Name, BootID: boot}, keeper: keeper}
	if err := a.assemble(); err != nil {
		return err
	}
	defer a.pods.Close()
	if err := a.network.restore(ctx); err != nil {
		return err
	}
	log.Info("agent starts", "host", cfg.Name, "boot", boot, "listen", cfg.Listen)
	if err := a.engine.Resume(ctx); err != nil {
		return err
	}
	if err := a.patch.Resume(ctx); err != nil {
		log.Warn("nothing keeps others from rebooting this host", "error", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.serve(ctx) })
	group.Go(func() error { return a.tend(ctx) })
	group.Go(func() error { return a.report(ctx) })
	group.Go(func() error { return a.watching.run(ctx) })
	group.Go(func() error { return a.fresh.Run(ctx) })
	group.Go(func() error { return a.proofs.Keep(ctx) })
	group.Go(func() error { return keeper.Run(ctx, a.store.renew, log) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (a *agent) assemble() (err error) {
	a.fence, err = owner.OpenFence(filepath.Join(a.cfg.DataDir, "fence.json"))
	if err != nil {
		return err
	}
	a.pods, err = pods.New(pods.Config{
		Socket: a.cfg.Containerd.Socket, Namespace: namespace, DataDir: a.cfg.DataDir, RunDir: a.cfg.RunDir,
		CgroupParent: a.cfg.CgroupParent, Bridge: a.cfg.Network.Bridge,
	})
	if err != nil {
		return err
	}
	if a.proofs, err = a.newProofs(); err != nil {
		return err
	}
	a.host = &status.Host{DataDir: a.cfg.DataDir, Containerd: a.pods.Version, CgroupVersion: pods.CgroupVersion(), Proof: a.proof}
	a.peers = newPeers(a.keeper)
	a.store = newStoreClient(a.cfg.Controllers, a.keeper)
	a.engine = migrate.New(migrate.Config{
		Here: a.here, Address: a.cfg.Listen, DataDir: a.cfg.DataDir, RunDir: a.cfg.RunDir,
		Pods: a.pods, Store: a.store, Peers: a.peers, Inspect: a.host.Inspect, Silence: a.cfg.Migration.Silence,
		At: faultpoint.In(a.cfg.FaultDir, a.log), Log: a.log,
	})
	a.network = newPodNetwork(a)
	a.watching, a.shims = newSupervisor(a), newShims(a)
	a.fresh = a.newFresh()
	a.patch, err = a.newPatch()
	return err
}

// tendEvery is how often the agent looks after pods that nobody acts on. What is urgent does not wait for it.
const tendEvery = time.Second

func (a *agent) tend(ctx context.Context) error {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := a.engine.Tend(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("pods are not all settled", "error", err)
		}
		if err := a.engine.DeliverReports(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("reports are kept", "error", err)
		}
		if n%60 == 0 {
			if err := a.pods.TrimLogs(); err != nil {
				a.log.Warn("trim logs", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// joinRetry is how long a host waits that no controller lets in yet.
const joinRetry = 500 * time.Millisecond

// join gets the host's certificate, once; later starts load it.
func join(ctx context.Context, cfg config.Agent, boot string, log *slog.Logger) (*pki.Keeper, error) {
	dir := filepath.Join(cfg.DataDir, "pki")
	keeper, err := pki.OpenKeeper(dir, pki.SystemClock{})
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return keeper, err
	}
	token, err := os.ReadFile(cfg.Join.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("this host has not joined and there is no token: %w; make one with `drydock host join %s`", err, cfg.Name)
	}
	if _, err := pki.ParseToken(string(token)); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Join.TokenFile, err)
	}
	told := ""
	for {
		keeper, _, err := pki.Join(ctx, pki.JoinRequest{
			Controllers: cfg.Controllers, Token: strings.TrimSpace(string(token)), Name: cfg.Name, Address: cfg.Listen,
			BootID: boot, API: version.API, Dir: dir,
		}, pki.SystemClock{})
		if err == nil || !errors.Is(err, pki.ErrNoAnswer) {
			return keeper, err
		}
		if err.Error() != told {
			log.Warn("this host has not joined yet, and tries again", "error", err)
			told = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(joinRetry):
		}
	}
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
