package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

const (
	stateRunning  = drydockv1.RolloutState_ROLLOUT_STATE_RUNNING
	stateWaiting  = drydockv1.RolloutState_ROLLOUT_STATE_WAITING
	statePaused   = drydockv1.RolloutState_ROLLOUT_STATE_PAUSED
	stateStopped  = drydockv1.RolloutState_ROLLOUT_STATE_STOPPED
	stateFinished = drydockv1.RolloutState_ROLLOUT_STATE_FINISHED
	stateAborted  = drydockv1.RolloutState_ROLLOUT_STATE_ABORTED

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
	return state == stateFinished || state == stateAborted
}

// active says whether the leader is to carry it on.
func active(state drydockv1.RolloutState) bool {
	return state == stateRunning || state == stateWaiting
}

func (s *Rollouts) rolloutKey(id string) string { return s.Prefix + "rollouts/" + id }

// Beside a rollout lie its hosts and its rounds, each below the rollout's id.
func (s *Rollouts) hostsPrefix(id string) string   { return s.Prefix + "rollout-hosts/" + id + "/" }
func (s *Rollouts) hostKey(id, host string) string { return s.hostsPrefix(id) + host }
func (s *Rollouts) roundsPrefix(id string) string  { return s.Prefix + "rollout-rounds/" + id + "/" }
func (s *Rollouts) roundKey(id string, n int) string {
	return fmt.Sprintf("%s%06d", s.roundsPrefix(id), n)
}

func (s *Rollouts) poolKey(name string) string { return s.Prefix + "pools/" + name }

type rolloutItem = store.Item[*drydockv1.RolloutRecord]

func (s *Rollouts) rollout(ctx context.Context, id string) (rolloutItem, error) {
	item, err := store.Get[drydockv1.RolloutRecord](ctx, s.Store, s.rolloutKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return rolloutItem{}, refusal.NotFound("rollout", id, "drydock rollout ls")
	}
	return item, err
}

// holder is the head of the rollout that owns a cordon; nil where it is not a rollout's, or one's that is forgotten.
func (s *Rollouts) holder(ctx context.Context, cordon *drydockv1.Cordon) (*drydockv1.Rollout, error) {
	id, ok := strings.CutPrefix(cordon.GetOwner(), OwnerPrefix)
	if !ok {
		return nil, nil
	}
	item, err := s.rollout(ctx, id)
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil, nil
	}
	return item.Value.GetRollout(), err
}

type poolItem = store.Item[*drydockv1.PoolRecord]

func (s *Rollouts) poolRecord(ctx context.Context, name string) (poolItem, error) {
	item, err := store.Get[drydockv1.PoolRecord](ctx, s.Store, s.poolKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return poolItem{Key: s.poolKey(name), Value: &drydockv1.PoolRecord{}}, nil
	}
	return item, err
}

// Pool is what is known of a pool's rollouts; empty where there was none.
func (s *Rollouts) Pool(ctx context.Context, name string) (*drydockv1.PoolRecord, error) {
	item, err := s.poolRecord(ctx, name)
	return item.Value, err
}

// keepRollouts is how many are kept; those that have not ended are kept in any case.
const keepRollouts = 200

// prune deletes the oldest, each at once with what lies beside it.
func (s *Rollouts) prune(ctx context.Context) error {
	items, err := store.List[drydockv1.RolloutRecord](ctx, s.Store, s.rolloutKey(""))
	if err != nil {
		return err
	}
	for _, item := range items[:max(len(items)-keepRollouts, 0)] {
		id := item.Value.GetRollout().GetId()
		if !over(item.Value.GetRollout().GetState()) {
			continue
		}
		txn := s.Store.Txn().If(store.Unchanged(item.Key, item.Revision)).Delete(item.Key)
		for _, prefix := range []string{s.hostsPrefix(id), s.roundsPrefix(id)} {
			txn.DeleteRange(prefix, clientv3.GetPrefixRangeEnd(prefix))
		}
		if _, err := txn.Commit(ctx); err != nil {
			return fmt.Errorf("delete rollout %s: %w", id, err)
		}
	}
	return nil
}

// writeRounds replaces the rounds of a rollout from one on, and adds the hosts that are new in them.
func (s *Rollouts) writeRounds(ctx context.Context, id string, from int, rounds []*drydockv1.PlanRound) error {
	for i, round := range rounds {
		for _, h := range round.GetHosts() {
			_, err := journal(ctx, s.Store, s.hostKey(id, h.GetHost()), func(host *drydockv1.RolloutHost) error {
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
		if _, err := s.Store.Txn().Put(s.roundKey(id, from+i), round).Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Rollouts) allHosts(ctx context.Context, id string) ([]*drydockv1.RolloutHost, error) {
	items, err := store.List[drydockv1.RolloutHost](ctx, s.Store, s.hostsPrefix(id))
	return valuesOf(items), err
}

func (s *Rollouts) allRounds(ctx context.Context, id string) ([]*drydockv1.PlanRound, error) {
	items, err := store.List[drydockv1.PlanRound](ctx, s.Store, s.roundsPrefix(id))
	return valuesOf(items), err
}

func valuesOf[M proto.Message](items []store.Item[M]) []M {
	values := make([]M, 0, len(items))
	for _, item := range items {
		values = append(values, item.Value)
	}
	return values
}

// Get is a rollout with all that lies beside it, and with what is being done at this moment; an error whose code is NotFound where
// there is none.
func (s *Rollouts) Get(ctx context.Context, id string) (*drydockv1.Rollout, error) {
	item, err := s.rollout(ctx, id)
	if err != nil {
		return nil, err
	}
	whole := item.Value.GetRollout()
	if whole.Hosts, err = s.allHosts(ctx, id); err != nil {
		return nil, err
	}
	if whole.Plan, err = s.allRounds(ctx, id); err != nil {
		return nil, err
	}
	whole.Plan = whole.GetPlan()[:min(len(whole.GetPlan()), int(whole.GetRounds()))]
	inOrder(whole)
	moves, err := s.Controller.MovesOf(ctx, OwnerPrefix+id)
	if err != nil {
		return nil, err
	}
	for _, report := range moves {
		whole.Moves = append(whole.Moves, &drydockv1.RolloutMove{
			Pod: report.GetPod(), From: report.GetFrom(), To: report.GetTo(), Migration: report.GetId(), Mode: report.GetMode(),
			Outcome: report.GetOutcome(), Freeze: report.GetFreeze(), Finished: report.GetFinished(),
		})
	}
	if x := s.execution(id); x != nil {
		x.overlay(whole)
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

// List are the rollouts of a pool, or all, the newest first, without what lies beside them; limit is how many at most, 0: all.
func (s *Rollouts) List(ctx context.Context, name string, limit int) ([]*drydockv1.Rollout, error) {
	items, err := store.List[drydockv1.RolloutRecord](ctx, s.Store, s.rolloutKey(""))
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
