package orchestrator

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/pool"
)

// tryAgain is how long the schedule waits before it looks again at a pool that it could not start.
const tryAgain = 15 * time.Minute

// patchPools carries on with rollouts, also those of a controller that died, and starts those whose time has come, for as long
// as the term lasts.
func (c *Controller) patchPools(r *reign) {
	for {
		if err := c.carryOutAll(r); err != nil && r.ctx.Err() == nil {
			c.log.Error("rollouts", "error", err)
		}
		if err := c.schedule(r.ctx, r); err != nil && r.ctx.Err() == nil {
			c.log.Error("schedule of rollouts", "error", err)
		}
		if !sleep(r.ctx, c.config.Timings.ReconcileInterval) {
			return
		}
	}
}

// schedule starts a rollout of every pool whose window is open, that was not started in this window yet, and of which a host
// lacks something.
func (c *Controller) schedule(ctx context.Context, r *reign) error {
	all := c.pools.all()
	for _, name := range sortedKeys(all) {
		due, err := c.timeHasCome(ctx, all[name])
		if err != nil {
			return err
		}
		if !due {
			continue
		}
		r.spawn(func() { c.startScheduled(r, name) })
	}
	return nil
}

// timeHasCome says whether the schedule is to start a rollout of a pool now.
func (c *Controller) timeHasCome(ctx context.Context, p *pool.Pool) (bool, error) {
	if p.Schedule != pool.ScheduleWindow {
		return false, nil
	}
	now := c.now()
	if ok, _, _ := p.WindowSet().MayStart(now, 0); !ok {
		return false, nil
	}
	item, err := c.poolRecord(ctx, p.Name)
	if err != nil || item.Value.GetRollout() != "" {
		return false, err
	}
	if tried := item.Value.GetTried(); tried != nil && now.Sub(tried.AsTime()) < tryAgain {
		return false, nil
	}
	if started := item.Value.GetStarted(); started != nil {
		then := p.WindowSet().At(started.AsTime())
		sameWindow := then.Open && now.Before(then.Until)
		if sameWindow || now.Before(started.AsTime().Add(p.MinPeriod)) {
			return false, nil
		}
	}
	return c.lacksSomething(ctx, p)
}

// lacksSomething is a cheap look at what hosts report; the plan says for certain.
func (c *Controller) lacksSomething(ctx context.Context, p *pool.Pool) (bool, error) {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return false, err
	}
	for _, name := range membersOf(p, hosts) {
		summary := hosts[name].report.GetSummary()
		updates := summary.GetUpdates()
		if p.Patch.What == pool.PatchSecurity {
			updates = summary.GetSecurityUpdates()
		}
		if hosts[name].answers() && (updates > 0 || summary.GetRebootRequired() && p.Reboot != pool.RebootNever) {
			return true, nil
		}
	}
	return false, nil
}

// scheduler is who starts rollouts when a window opens.
const scheduler = "schedule"

// startScheduled notes first that it tries, so that a controller that dies meanwhile does not have the next one try at once.
func (c *Controller) startScheduled(r *reign, name string) {
	note := func(change func(*drydockv1.PoolRecord)) error {
		_, err := journal(r.ctx, c, r, poolKey(name), func(record *drydockv1.PoolRecord) error {
			change(record)
			return nil
		})
		return err
	}
	mine := false
	err := note(func(record *drydockv1.PoolRecord) {
		tried := record.GetTried()
		if mine = record.GetRollout() == "" && (tried == nil || c.now().Sub(tried.AsTime()) >= tryAgain); mine {
			record.Tried = timestamppb.New(c.now())
		}
	})
	if err != nil || !mine {
		return
	}
	problem := ""
	response, err := c.startRollout(r.ctx, r, name, scheduler)
	switch {
	case err != nil:
		problem = err.Error()
		c.log.Warn("rollout is not started", "pool", name, "error", err)
	case response.GetRollout() == nil:
		problem = "no host lacks anything"
	}
	if err := note(func(record *drydockv1.PoolRecord) { record.Problem = problem }); err != nil && r.ctx.Err() == nil {
		c.log.Error("schedule's result is not stored", "pool", name, "error", err)
	}
}
