package rollout

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/pool"
)

// tryAgain is how long the schedule waits before it looks again at a pool that it could not start.
const tryAgain = 15 * time.Minute

// schedule starts a rollout of every pool whose window is open, that was not started in this window yet, and of which a host
// lacks something.
func (s *Rollouts) schedule(term Term) error {
	all := s.Pools.All()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		due, err := s.Due(term.Context(), term, all[name])
		if err != nil {
			return err
		}
		if !due {
			continue
		}
		term.Go(func() { s.startScheduled(term, name) })
	}
	return nil
}

// Due says whether the schedule is to start a rollout of a pool now.
func (s *Rollouts) Due(ctx context.Context, hosts Hosts, p *pool.Pool) (bool, error) {
	if p.Schedule != pool.ScheduleWindow {
		return false, nil
	}
	now := s.Now()
	if ok, _, _ := p.WindowSet().MayStart(now, 0); !ok {
		return false, nil
	}
	item, err := s.poolRecord(ctx, p.Name)
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
	return lacksSomething(ctx, hosts, p)
}

// lacksSomething is a cheap look at what hosts report; the plan says for certain.
func lacksSomething(ctx context.Context, hosts Hosts, p *pool.Pool) (bool, error) {
	known, err := hosts.Hosts(ctx)
	if err != nil {
		return false, err
	}
	for name, h := range known {
		updates := h.Summary.GetUpdates()
		if p.Patch.What == pool.PatchSecurity {
			updates = h.Summary.GetSecurityUpdates()
		}
		wants := updates > 0 || h.Summary.GetRebootRequired() && p.Reboot != pool.RebootNever
		if wants && h.Answers && p.HasHost(name, h.Labels) {
			return true, nil
		}
	}
	return false, nil
}

// Scheduler is who starts rollouts when a window opens.
const Scheduler = "schedule"

// startScheduled notes first that it tries, so that a controller that dies meanwhile does not have the next one try at once.
func (s *Rollouts) startScheduled(term Term, name string) {
	note := func(change func(*drydockv1.PoolRecord)) error {
		_, err := journal(term.Context(), s.Store, s.poolKey(name), func(record *drydockv1.PoolRecord) error {
			change(record)
			return nil
		})
		return err
	}
	mine := false
	err := note(func(record *drydockv1.PoolRecord) {
		tried := record.GetTried()
		if mine = record.GetRollout() == "" && (tried == nil || s.Now().Sub(tried.AsTime()) >= tryAgain); mine {
			record.Tried = timestamppb.New(s.Now())
		}
	})
	if err != nil || !mine {
		return
	}
	problem := ""
	response, err := s.start(term.Context(), term, name, Scheduler)
	switch {
	case err != nil:
		problem = err.Error()
		s.Log.Warn("rollout is not started", "pool", name, "error", err)
	case response.GetRollout() == nil:
		problem = "no host lacks anything"
	}
	if err := note(func(record *drydockv1.PoolRecord) { record.Problem = problem }); err != nil && term.Context().Err() == nil {
		s.Log.Error("schedule's result is not stored", "pool", name, "error", err)
	}
}
