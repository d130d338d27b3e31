package orchestrator

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/pool"
)

// lookForPools is how often a directory of pools is looked for that is not there.
const lookForPools = 10 * time.Second

// pools are those in force. A directory that does not exist holds none.
type pools struct {
	path string
	log  *slog.Logger

	mu  sync.Mutex
	dir *pool.Dir
}

func openPools(path string, log *slog.Logger) *pools {
	p := &pools{path: path, log: log}
	p.open()
	return p
}

func (p *pools) open() *pool.Dir {
	dir, err := pool.Open(p.path, p.tell)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			p.log.Error("pools are not read", "error", err)
		}
		dir = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dir = dir
	return dir
}

func (p *pools) tell(file string) {
	if fault := p.faults()[file]; fault != nil {
		p.log.Warn("pool's file has a fault and is not taken", "file", file, "fault", fault)
		return
	}
	p.log.Info("pool's file has changed", "file", file)
}

// follow takes in what changes until ctx ends.
func (p *pools) follow(ctx context.Context) {
	for dir := p.current(); ctx.Err() == nil; dir = p.open() {
		if dir != nil {
			if err := dir.Run(ctx); err != nil {
				p.log.Error("pools are not followed", "error", err)
			}
		}
		sleep(ctx, lookForPools)
	}
}

func (p *pools) current() *pool.Dir {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dir
}

// All are the pools by name.
func (p *pools) All() map[string]*pool.Pool {
	if dir := p.current(); dir != nil {
		return dir.Pools()
	}
	return nil
}

func (p *pools) faults() map[string]error {
	if dir := p.current(); dir != nil {
		return dir.Faults()
	}
	return nil
}

// Get is a pool, with the text that it was read from; or an error whose code is NotFound.
func (p *pools) Get(name string) (found *pool.Pool, file string, text []byte, err error) {
	if dir := p.current(); dir != nil {
		if file, text, ok := dir.Text(name); ok {
			found, err := pool.Parse(file, text)
			return found, file, text, err
		}
	}
	return nil, "", nil, notFound("pool", name, "drydock pool ls")
}

func (c *Controller) listPools(ctx context.Context) (*drydockv1.ListPoolsResponse, error) {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return nil, err
	}
	response := &drydockv1.ListPoolsResponse{}
	all := c.pools.All()
	for _, name := range sortedKeys(all) {
		record, err := c.rollouts.Pool(ctx, name)
		if err != nil {
			return nil, err
		}
		status := all[name].WindowSet().At(c.now())
		wire := &drydockv1.Pool{
			Name: name, Hosts: membersOf(all[name], hosts), Schedule: all[name].Schedule, Open: status.Open,
			Rollout: record.GetRollout(), LastStarted: record.GetStarted(), Problem: record.GetProblem(),
		}
		if !status.Until.IsZero() {
			wire.Until = timestamppb.New(status.Until)
		}
		response.Pools = append(response.Pools, wire)
	}
	faults := c.pools.faults()
	for _, file := range sortedKeys(faults) {
		response.Faults = append(response.Faults, &drydockv1.PoolFault{File: file, Fault: faults[file].Error()})
	}
	return response, nil
}

// mixed says whether a host belongs to a pool of kernels of different ages.
func (c *Controller) mixed(h host) bool {
	for _, p := range c.pools.All() {
		if p.Mixed && p.HasHost(h.name(), h.report.GetInfo().GetLabels()) {
			return true
		}
	}
	return false
}

// membersOf are the hosts of a pool that have joined.
func membersOf(p *pool.Pool, hosts map[string]host) []string {
	var members []string
	for name, h := range hosts {
		if p.HasHost(name, h.report.GetInfo().GetLabels()) {
			members = append(members, name)
		}
	}
	slices.Sort(members)
	return members
}
