package rollout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// start plans, writes the rollout down, and begins it. Where no host lacks anything there is only the plan.
func (s *Rollouts) start(ctx context.Context, term Term, name, by string) (*drydockv1.StartRolloutResponse, error) {
	defer s.Controller.Lock("pool " + name)()
	p, file, text, err := s.Pools.Get(name)
	if err != nil {
		return nil, err
	}
	if err := s.mayStart(ctx, p); err != nil {
		return nil, err
	}
	planned, err := term.Plan(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := blocked(planned); err != nil {
		return nil, err
	}
	if len(planned.GetRounds()) == 0 {
		return &drydockv1.StartRolloutResponse{Plan: planned}, nobodyLeft(planned)
	}
	rollout := &drydockv1.Rollout{
		Id: newID(s.Now()), Pool: name, State: stateRunning, Step: steps()[0].name, StartedBy: by, Started: timestamppb.New(s.Now()),
		Rounds: int32(len(planned.GetRounds())), Skipped: planned.GetSkipped(), Expected: planned.GetDuration(),
	}
	for _, round := range planned.GetRounds() {
		rollout.HostsTotal += int32(len(round.GetHosts()))
	}
	if err := s.enter(ctx, &drydockv1.RolloutRecord{Rollout: rollout, Pool: text, PoolFile: file}, planned.GetRounds()); err != nil {
		return nil, err
	}
	term.Record(ctx, "rollout begun", "rollout "+rollout.GetId(), fmt.Sprintf("pool %s, by %s", name, by), nil)
	s.Log.Info("rollout begins", "rollout", rollout.GetId(), "pool", name, "hosts", rollout.GetHostsTotal(), "by", by)
	if err := s.carryOut(term, rollout.GetId()); err != nil {
		return nil, err
	}
	if err := s.prune(ctx); err != nil {
		s.Log.Warn("rollouts that are long over are still stored", "error", err)
	}
	whole, err := s.Get(ctx, rollout.GetId())
	return &drydockv1.StartRolloutResponse{Rollout: whole, Plan: planned}, err
}

// mayStart refuses a second one of a pool, and one that comes too soon after the last.
func (s *Rollouts) mayStart(ctx context.Context, p *pool.Pool) error {
	item, err := s.poolRecord(ctx, p.Name)
	if err != nil {
		return err
	}
	what := "patch pool " + p.Name
	if id := item.Value.GetRollout(); id != "" {
		return refusal.New(what, refusal.Because("rollout "+id+" of this pool has not ended", "see `drydock rollout show "+id+"`; go on with it by `drydock rollout resume "+id+"`, or end it by `drydock rollout abort "+id+"`"))
	}
	if started := item.Value.GetStarted(); started != nil {
		if next := started.AsTime().Add(p.MinPeriod); s.Now().Before(next) {
			return refusal.New(what, refusal.Because(fmt.Sprintf("the last rollout started at %s, and the pool's `min-period` is %s", started.AsTime().Format(time.RFC3339), p.MinPeriod),
				"wait until "+next.UTC().Format(time.RFC3339)+", or make `min-period` shorter"))
		}
	}
	return nil
}

// enter writes a rollout down: hosts and rounds first, and then, at once, that it is there and its pool's.
func (s *Rollouts) enter(ctx context.Context, record *drydockv1.RolloutRecord, rounds []*drydockv1.PlanRound) error {
	id, name := record.GetRollout().GetId(), record.GetRollout().GetPool()
	if err := s.writeRounds(ctx, id, 0, rounds); err != nil {
		return err
	}
	item, err := s.poolRecord(ctx, name)
	if err != nil {
		return err
	}
	item.Value.Rollout, item.Value.Started, item.Value.Problem = id, record.GetRollout().GetStarted(), ""
	_, err = s.Store.Txn().If(store.Unchanged(item.Key, item.Revision), store.Unchanged(s.rolloutKey(id), 0)).
		Put(item.Key, item.Value).Put(s.rolloutKey(id), record).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return refusal.New("patch pool "+name, refusal.Because("another rollout of it was started at the same moment", "see `drydock rollout ls`"))
	}
	return err
}

// blocked is a refusal by what is in a plan's way, or nil.
func blocked(p *drydockv1.PoolPlan) error {
	var reasons []*drydockv1.Refusal
	for _, b := range p.GetBlockers() {
		reasons = append(reasons, refusal.Because(blockerText(b), b.GetRemedy()))
	}
	return refusal.New("patch pool "+p.GetPool(), reasons...)
}

// nobodyLeft is a refusal by why each host takes no part, where none has what it needs already; else nil.
func nobodyLeft(p *drydockv1.PoolPlan) error {
	if len(p.GetCurrent()) > 0 {
		return nil
	}
	var reasons []*drydockv1.Refusal
	for _, b := range p.GetSkipped() {
		reasons = append(reasons, refusal.Because(b.GetReason(), b.GetRemedy()))
	}
	return refusal.New("patch pool "+p.GetPool(), reasons...)
}

// blockerText names the pod; that of a host names it already.
func blockerText(b *drydockv1.PlanBlocker) string {
	if b.GetPod() == "" {
		return b.GetReason()
	}
	return fmt.Sprintf("pod %s on %s: %s", b.GetPod(), b.GetHost(), b.GetReason())
}

// newID makes an id that is never used again; ids sort by the time that they were made.
func newID(now time.Time) string {
	return "r" + strconv.FormatInt(now.UnixMilli(), 36) + "-" + strings.ToLower(rand.Text()[:6])
}
