package orchestrator

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"drydock/internal/config"
	"drydock/internal/faultpoint"
	"drydock/internal/pki"
	"drydock/migrate/owner"
	"drydock/orchestrator/audit"
	"drydock/orchestrator/rollout"
	"drydock/orchestrator/store"
	"drydock/orchestrator/upgrade"
)

// Controller is one controller over a store. Several may work over the same store; one of them leads.
type Controller struct {
	config config.Controller
	log    *slog.Logger
	now    func() time.Time
	store  *store.Store
	owners *owner.Etcd
	ca     *pki.CA
	agents *agents
	seen   *sightings
	locks  keyedLocks
	pools  *pools
	// trail is the record of what is changed.
	trail *audit.Trail
	// services have their upgrade records, and upgrades.
	services *upgrade.Services
	// rollouts patch pools.
	rollouts *rollout.Rollouts
	// proving is held while two hosts try the network between them.
	proving sync.Mutex
	// troubles is why pods are not yet what they should be.
	troubles troubles
	// fault is called at named points and ends what is being done where it returns an error; tests make controllers die with it.
	fault func(point string) error

	mu      sync.Mutex
	current *reign
	changed chan struct{}
}

// newController makes a controller over an open store.
func newController(cfg config.Controller, log *slog.Logger, db *store.Store, ca *pki.CA, keeper *pki.Keeper) *Controller {
	c := &Controller{
		config: cfg, log: log, now: time.Now, store: db,
		owners: owner.NewEtcd(db.Client(), keyOwners),
		ca:     ca, agents: newAgents(keeper), pools: openPools(cfg.PoolsDir, log),
		seen:    newSightings(time.Now(), cfg.Timings.UnreachableAfter),
		fault:   standAt(cfg.FaultDir, log),
		changed: make(chan struct{}),
	}
	c.trail = c.newTrail()
	c.services, c.rollouts = c.newServices(), c.newRollouts()
	return c
}

// standAt has the controller stop at points, for tests, whose names in dir have hyphens for blanks.
func standAt(dir string, log *slog.Logger) func(string) error {
	stop := faultpoint.In(dir, log)
	return func(point string) error {
		if stop != nil {
			stop(context.Background(), strings.ReplaceAll(point, " ", "-"))
		}
		return nil
	}
}

// work leads when it can, until ctx ends.
func (c *Controller) work(ctx context.Context) error {
	var group sync.WaitGroup
	defer c.agents.close()
	defer group.Wait()
	group.Go(func() { c.pools.follow(ctx) })
	return c.lead(ctx)
}

func (c *Controller) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.config.Timings.CallTimeout)
}

// keyedLocks are a mutex for each name.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	sync.Mutex
	users int
}

// lock waits for the name's mutex, and returns what releases it.
func (k *keyedLocks) lock(name string) func() {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = make(map[string]*keyedLock)
	}
	l, ok := k.locks[name]
	if !ok {
		l = new(keyedLock)
		k.locks[name] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, name)
		}
	}
}
