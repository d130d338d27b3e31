package orchestrator

import (
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

// atOnce is how many pods the leader takes care of at a time by itself.
const atOnce = 8

// reconcile carries on with what is unfinished - pods, migrations and drains, also those of a controller that died - for as
// long as the term lasts.
func (c *Controller) reconcile(r *reign) {
	slots := make(chan struct{}, atOnce)
	busy := newNames()
	for {
		if err := c.carryOn(r, slots, busy); err != nil && r.ctx.Err() == nil {
			c.log.Error("reconcile", "error", err)
		}
		if !sleep(r.ctx, c.config.Timings.ReconcileInterval) {
			return
		}
	}
}

func (c *Controller) carryOn(r *reign, slots chan struct{}, busy *names) error {
	items, err := store.List[drydockv1.PodRecord](r.ctx, c.store, keyPods)
	if err != nil {
		return err
	}
	// Whoever acts on what is seen here reads the store first.
	owners, hosts := r.fleet.Load().ownerRecords(), c.knownHosts(r)
	for _, item := range items {
		name := strings.TrimPrefix(item.Key, keyPods)
		if id := item.Value.GetMigration(); id != "" {
			if err := c.reattach(r, name, id); err != nil {
				c.log.Error("migration not followed", "migration", id, "error", err)
			}
		}
		if asWanted(item.Value, owners[name], hosts) || !busy.add(name) {
			continue
		}
		r.spawn(func() {
			defer busy.remove(name)
			slots <- struct{}{}
			defer func() { <-slots }()
			c.convergeQuietly(r, name)
		})
	}
	for _, name := range sortedKeys(hosts) {
		if hosts[name].record.GetCordon().GetDrain() == nil {
			continue
		}
		h, err := c.host(r.ctx, name)
		if err != nil {
			return err
		}
		if spec := h.record.GetCordon().GetDrain(); spec != nil {
			c.startDrain(r, name, spec)
		}
	}
	return nil
}

// convergeQuietly logs a reason once, not with every look.
func (c *Controller) convergeQuietly(r *reign, name string) {
	before := c.troubles.of(name)
	if err := c.converge(r.ctx, r, name); err != nil && r.ctx.Err() == nil && err.Error() != before {
		c.log.Warn("pod is not as wanted", "pod", name, "error", err)
	}
}

// asWanted is a cheap look that spares converge: when in doubt, it says no.
func asWanted(record *drydockv1.PodRecord, own owner.Record, hosts map[string]host) bool {
	switch own.State {
	case owner.Running, owner.Moving:
		if record.GetDesired() != wantRunning && own.State == owner.Running || !booted(own.Owner, hosts) {
			return false
		}
		if own.State == owner.Moving {
			return booted(own.Destination, hosts)
		}
		return (own.Settled || own.Outcome != owner.Undecided) && shimAsWanted(record, own, hosts[own.Owner.Host])
	case owner.Stopped:
		return record.GetDesired() == wantStopped
	}
	return false
}

// booted says whether a host is, for all that is known, still in the boot on record.
func booted(at owner.Place, hosts map[string]host) bool {
	h, ok := hosts[at.Host]
	return ok && h.record.GetBootId() == at.BootID && h.record.GetDeadBootId() != at.BootID
}

// pause is how long the leader waits before it asks an agent again that did not answer.
const pause = 500 * time.Millisecond
