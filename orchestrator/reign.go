package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"drydock/migrate/owner"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// reign is one term of leadership at work: what runs in it ends with it.
type reign struct {
	term   *store.Term
	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup
	owners owner.Registry
	fleet  atomic.Pointer[fleet]
	// pair is the one that was looked at last of those that prove the network between them.
	pair int

	mu     sync.Mutex
	over   bool
	movers map[string]*mover
	drains map[string]*drain
}

func (c *Controller) newReign(ctx context.Context, term *store.Term) *reign {
	ctx, cancel := context.WithCancel(withTerm(ctx, term))
	return &reign{
		term: term, ctx: ctx, cancel: cancel,
		owners: owner.Registry{Store: c.owners.Guarded(term.Key(), term.Revision()), Leader: term.Revision()},
		movers: make(map[string]*mover), drains: make(map[string]*drain),
	}
}

// lead campaigns, reigns until the term is lost, and campaigns again, until ctx ends.
func (c *Controller) lead(ctx context.Context) error {
	for ctx.Err() == nil {
		term, err := c.store.Campaign(ctx, keyLeader, c.self())
		if err == nil {
			err = c.reign(ctx, term)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Error("leadership", "error", err)
			sleep(ctx, time.Second)
		}
	}
	return nil
}

func (c *Controller) reign(ctx context.Context, term *store.Term) error {
	r := c.newReign(ctx, term)
	known, err := c.newFleet(ctx)
	if err != nil {
		r.cancel()
		return errors.Join(err, term.Resign())
	}
	r.fleet.Store(known)
	c.seen.begin(c.now())
	c.log.Info("leading", "term", term.Revision())
	c.setReign(r)
	r.spawn(func() { c.followFleet(r) })
	r.spawn(func() { c.reconcile(r) })
	r.spawn(func() { c.proveLinks(r) })
	r.spawn(func() { c.trail.Keep(r.ctx, c.config.Audit) })
	r.spawn(func() { c.promoteMembers(r) })
	r.spawn(func() { c.rollouts.Run(c.termOf(r)) })
	r.spawn(func() { c.services.Run(r.ctx) })
	select {
	case <-ctx.Done():
	case <-term.Lost():
		c.log.Warn("leadership lost", "term", term.Revision())
	}
	c.setReign(nil)
	r.end()
	return term.Resign()
}

// spawn starts work that the end of the reign waits for, and says whether it still could.
func (r *reign) spawn(work func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	r.group.Go(work)
	return true
}

func (r *reign) end() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.cancel()
	r.group.Wait()
}

// setReign publishes that this controller leads, or that it does not.
func (c *Controller) setReign(r *reign) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = r
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Controller) reigning() (*reign, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current, c.changed
}

// leading is the present term. At a controller's start it waits a moment for one.
func (c *Controller) leading(ctx context.Context) (*reign, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timings.CallTimeout)
	defer cancel()
	for {
		r, changed := c.reigning()
		if r != nil {
			return r, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, connect.NewError(connect.CodeUnavailable, refusal.ErrNobodyLeads)
		}
	}
}

// stillLeads says why a leader's write that met a conflict is not to be tried again, or nil.
func (c *Controller) stillLeads(ctx context.Context, r *reign) error {
	_, err := c.store.Txn().If(r.term.Holds()).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return owner.ErrDeposed
	}
	return err
}

// detached does work that a caller waits for but does not own: it goes on when the caller goes away.
func detached[T any](ctx context.Context, r *reign, work func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	var zero T
	started := r.spawn(func() {
		value, err := work(r.ctx)
		done <- result{value, err}
	})
	if !started {
		return zero, fmt.Errorf("leadership ended: %w", owner.ErrDeposed)
	}
	select {
	case got := <-done:
		return got.value, got.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
