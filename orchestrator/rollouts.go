package orchestrator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/store"
)

// rolloutOwner is what the owners of rollouts' cordons begin with; the rollout's id follows.
const rolloutOwner = "rollout/"

const (
	rolloutRunning  = drydockv1.RolloutState_ROLLOUT_STATE_RUNNING
	rolloutWaiting  = drydockv1.RolloutState_ROLLOUT_STATE_WAITING
	rolloutPaused   = drydockv1.RolloutState_ROLLOUT_STATE_PAUSED
	rolloutStopped  = drydockv1.RolloutState_ROLLOUT_STATE_STOPPED
	rolloutFinished = drydockv1.RolloutState_ROLLOUT_STATE_FINISHED
	rolloutAborted  = drydockv1.RolloutState_ROLLOUT_STATE_ABORTED

	hostPending = drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_PENDING
	hostRunning = drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_RUNNING
	hostPatched = drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_PATCHED
	hostFailed  = drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_FAILED
	hostSkipped = drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_SKIPPED
)

// What operators ask of a rollout.
const (
	askPause = "pause"
	askAbort = "abort"
)

// over says whether a rollout has ended; a stopped or paused one has not.
func over(state drydockv1.RolloutState) bool {
	return state == rolloutFinished || state == rolloutAborted
}

// active says whether the leader is to carry it on.
func active(state drydockv1.RolloutState) bool {
	return state == rolloutRunning || state == rolloutWaiting
}

// newRolloutID makes an id that is never used again; ids sort by the time that they were made.
func newRolloutID(now time.Time) string {
	return "r" + strconv.FormatInt(now.UnixMilli(), 36) + "-" + strings.ToLower(rand.Text()[:6])
}

type rolloutItem = store.Item[*drydockv1.RolloutRecord]

func (c *Controller) rollout(ctx context.Context, id string) (rolloutItem, error) {
	item, err := store.Get[drydockv1.RolloutRecord](ctx, c.store, rolloutKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return rolloutItem{}, notFound("rollout", id, "drydock rollout ls")
	}
	return item, err
}

// journal changes a record under the leader's term, again where somebody else was faster.
func journal[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, c *Controller, r *reign, key string, change func(M) error) (M, error) {
	for {
		item, err := store.Get[T, M](ctx, c.store, key)
		if errors.Is(err, store.ErrNotFound) {
			item = store.Item[M]{Key: key, Value: M(new(T))}
		} else if err != nil {
			return nil, err
		}
		before := proto.CloneOf(item.Value)
		if err := change(item.Value); err != nil || proto.Equal(before, item.Value) {
			return item.Value, err
		}
		_, err = c.store.Txn().If(r.term.Holds(), store.Unchanged(key, item.Revision)).Put(key, item.Value).Commit(ctx)
		if !errors.Is(err, store.ErrConflict) {
			return item.Value, err
		}
		if err := c.stillLeads(ctx, r); err != nil {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
	}
}

// startRollout plans, writes the rollout down, and begins it. Where no host lacks anything there is only the plan.
func (c *Controller) startRollout(ctx context.Context, r *reign, name, by string) (*drydockv1.StartRolloutResponse, error) {
	defer c.locks.lock("pool " + name)()
	p, file, text, err := c.pools.get(name)
	if err != nil {
		return nil, err
	}
	if err := c.mayStartRollout(ctx, p); err != nil {
		return nil, err
	}
	planned, err := c.planPool(ctx, r, p, true)
	if err != nil {
		return nil, err
	}
	if err := blocked(planned); err != nil {
		return nil, err
	}
	if len(planned.GetRounds()) == 0 && len(planned.GetCurrent()) == 0 {
		var reasons []*drydockv1.Refusal
		for _, b := range planned.GetSkipped() {
			reasons = append(reasons, because(b.GetReason(), b.GetRemedy()))
		}
		return nil, refuse("patch pool "+name, reasons...)
	}
	if len(planned.GetRounds()) == 0 {
		return &drydockv1.StartRolloutResponse{Plan: planned}, nil
	}
	rollout := &drydockv1.Rollout{
		Id: newRolloutID(c.now()), Pool: name, State: rolloutRunning, Step: rolloutSteps()[0].name, StartedBy: by, Started: timestamppb.New(c.now()),
		Rounds: int32(len(planned.GetRounds())), Skipped: planned.GetSkipped(), Expected: planned.GetDuration(),
	}
	for _, round := range planned.GetRounds() {
		rollout.HostsTotal += int32(len(round.GetHosts()))
	}
	if err := c.enterRollout(ctx, r, &drydockv1.RolloutRecord{Rollout: rollout, Pool: text, PoolFile: file}, planned.GetRounds()); err != nil {
		return nil, err
	}
	c.record(ctx, "rollout begun", "rollout "+rollout.GetId(), fmt.Sprintf("pool %s, by %s", name, by), nil)
	c.log.Info("rollout begins", "rollout", rollout.GetId(), "pool", name, "hosts", rollout.GetHostsTotal(), "by", by)
	if err := c.carryOut(r, rollout.GetId()); err != nil {
		return nil, err
	}
	whole, err := c.wholeRollout(ctx, rollout.GetId())
	return &drydockv1.StartRolloutResponse{Rollout: whole, Plan: planned}, err
}

// mayStartRollout refuses a second one of a pool, and one that comes too soon after the last.
func (c *Controller) mayStartRollout(ctx context.Context, p *pool.Pool) error {
	item, err := c.poolRecord(ctx, p.Name)
	if err != nil {
		return err
	}
	what := "patch pool " + p.Name
	if id := item.Value.GetRollout(); id != "" {
		return refuse(what, because("rollout "+id+" of this pool has not ended", "see `drydock rollout show "+id+"`; go on with it by `drydock rollout resume "+id+"`, or end it by `drydock rollout abort "+id+"`"))
	}
	if started := item.Value.GetStarted(); started != nil {
		if next := started.AsTime().Add(p.MinPeriod); c.now().Before(next) {
			return refuse(what, because(fmt.Sprintf("the last rollout started at %s, and the pool's `min-period` is %s", started.AsTime().Format(time.RFC3339), p.MinPeriod),
				"wait until "+next.UTC().Format(time.RFC3339)+", or make `min-period` shorter"))
		}
	}
	return nil
}

// enterRollout writes a rollout down: hosts and rounds first, and then, at once, that it is there and its pool's.
func (c *Controller) enterRollout(ctx context.Context, r *reign, record *drydockv1.RolloutRecord, rounds []*drydockv1.PlanRound) error {
	id, name := record.GetRollout().GetId(), record.GetRollout().GetPool()
	if err := c.writeRounds(ctx, r, id, 0, rounds); err != nil {
		return err
	}
	item, err := c.poolRecord(ctx, name)
	if err != nil {
		return err
	}
	item.Value.Rollout, item.Value.Started, item.Value.Problem = id, record.GetRollout().GetStarted(), ""
	_, err = c.store.Txn().If(r.term.Holds(), store.Unchanged(item.Key, item.Revision), store.Unchanged(rolloutKey(id), 0)).
		Put(item.Key, item.Value).Put(rolloutKey(id), record).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return refuse("patch pool "+name, because("another rollout of it was started at the same moment", "see `drydock rollout ls`"))
	}
	if err == nil {
		err = c.pruneRollouts(ctx)
	}
	return err
}

// keepRollouts is how many are kept; those that have not ended are kept in any case.
const keepRollouts = 200

func (c *Controller) pruneRollouts(ctx context.Context) error {
	items, err := store.List[drydockv1.RolloutRecord](ctx, c.store, keyRollouts)
	if err != nil {
		return err
	}
	for _, item := range items[:max(len(items)-keepRollouts, 0)] {
		id := item.Value.GetRollout().GetId()
		if !over(item.Value.GetRollout().GetState()) {
			continue
		}
		for _, prefix := range []string{keyRolloutHosts + id + "/", keyRolloutRounds + id + "/"} {
			if _, err := c.store.Client().Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
				return fmt.Errorf("delete rollout %s: %w", id, err)
			}
		}
		if _, err := c.store.Txn().Delete(item.Key).Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// writeRounds replaces the rounds of a rollout from one on, and adds the hosts that are new in them.
func (c *Controller) writeRounds(ctx context.Context, r *reign, id string, from int, rounds []*drydockv1.PlanRound) error {
	for i, round := range rounds {
		for _, h := range round.GetHosts() {
			_, err := journal(ctx, c, r, rolloutHostKey(id, h.GetHost()), func(host *drydockv1.RolloutHost) error {
				host.Host, host.Patch, host.Drained, host.Reboot = h.GetHost(), h.GetPatch(), h.GetDrained(), h.GetReboot()
				if host.GetState() == drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_UNSPECIFIED {
					host.State = hostPending
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if _, err := c.store.Txn().If(r.term.Holds()).Put(rolloutRoundKey(id, from+i), round).Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) rolloutHosts(ctx context.Context, id string) ([]*drydockv1.RolloutHost, error) {
	items, err := store.List[drydockv1.RolloutHost](ctx, c.store, keyRolloutHosts+id+"/")
	return valuesOf(items), err
}

func (c *Controller) rolloutRounds(ctx context.Context, id string) ([]*drydockv1.PlanRound, error) {
	items, err := store.List[drydockv1.PlanRound](ctx, c.store, keyRolloutRounds+id+"/")
	return valuesOf(items), err
}

func valuesOf[M proto.Message](items []store.Item[M]) []M {
	values := make([]M, 0, len(items))
	for _, item := range items {
		values = append(values, item.Value)
	}
	return values
}

// wholeRollout is a rollout with all that lies beside it, and with what is being done at this moment.
func (c *Controller) wholeRollout(ctx context.Context, id string) (*drydockv1.Rollout, error) {
	item, err := c.rollout(ctx, id)
	if err != nil {
		return nil, err
	}
	whole := item.Value.GetRollout()
	if whole.Hosts, err = c.rolloutHosts(ctx, id); err != nil {
		return nil, err
	}
	if whole.Plan, err = c.rolloutRounds(ctx, id); err != nil {
		return nil, err
	}
	whole.Plan = whole.GetPlan()[:min(len(whole.GetPlan()), int(whole.GetRounds()))]
	inOrder(whole)
	migrations, err := store.List[drydockv1.MigrationRecord](ctx, c.store, keyMigrations)
	if err != nil {
		return nil, err
	}
	for _, m := range migrations {
		if m.Value.GetRequester() != rolloutOwner+id {
			continue
		}
		report := reportOf(m.Value)
		whole.Moves = append(whole.Moves, &drydockv1.RolloutMove{
			Pod: report.GetPod(), From: report.GetFrom(), To: report.GetTo(), Migration: report.GetId(), Mode: report.GetMode(),
			Outcome: report.GetOutcome(), Freeze: report.GetFreeze(), Finished: report.GetFinished(),
		})
	}
	if r, _ := c.reigning(); r != nil {
		r.overlay(whole)
	}
	return whole, nil
}

// inOrder puts the hosts into the order of the plan.
func inOrder(whole *drydockv1.Rollout) {
	position := map[string]int{}
	for _, round := range whole.GetPlan() {
		for _, h := range round.GetHosts() {
			if _, ok := position[h.GetHost()]; !ok {
				position[h.GetHost()] = len(position)
			}
		}
	}
	slices.SortStableFunc(whole.Hosts, func(a, b *drydockv1.RolloutHost) int { return position[a.GetHost()] - position[b.GetHost()] })
}

// listRollouts are those of a pool, or all, the newest first.
func (c *Controller) listRollouts(ctx context.Context, name string, limit int) ([]*drydockv1.Rollout, error) {
	items, err := store.List[drydockv1.RolloutRecord](ctx, c.store, keyRollouts)
	if err != nil {
		return nil, err
	}
	slices.Reverse(items)
	var found []*drydockv1.Rollout
	for _, item := range items {
		if limit > 0 && len(found) == limit {
			break
		}
		if rollout := item.Value.GetRollout(); name == "" || rollout.GetPool() == name {
			found = append(found, rollout)
		}
	}
	return found, nil
}
