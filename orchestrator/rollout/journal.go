package rollout

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// journal changes a record, again where somebody else was faster. That the term holds the store sees to, by ctx.
func journal[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, db *store.Store, key string, change func(M) error) (M, error) {
	item, err := store.Update(ctx, db, key, func(item store.Item[M]) error {
		before := proto.CloneOf(item.Value)
		if err := change(item.Value); err != nil {
			return err
		}
		if proto.Equal(before, item.Value) {
			return store.ErrUnchanged
		}
		return nil
	})
	return item.Value, err
}

// head is the rollout without what lies beside it.
func (x *execution) head(ctx context.Context) (*drydockv1.Rollout, error) {
	item, err := x.rollout(ctx, x.id)
	return item.Value.GetRollout(), err
}

func (x *execution) change(ctx context.Context, change func(*drydockv1.Rollout) error) (*drydockv1.Rollout, error) {
	record, err := journal(ctx, x.Store, x.rolloutKey(x.id), func(record *drydockv1.RolloutRecord) error { return change(record.GetRollout()) })
	x.changedNow()
	return record.GetRollout(), err
}

func (x *execution) changeHost(ctx context.Context, name string, change func(*drydockv1.RolloutHost) error) (*drydockv1.RolloutHost, error) {
	h, err := journal(ctx, x.Store, x.hostKey(x.id, name), change)
	x.changedNow()
	return h, err
}

// rest journals that the rollout goes on only when an operator says so, or is errAsked where one has said something else meanwhile.
func (x *execution) rest(ctx context.Context, state drydockv1.RolloutState, reason string, problems []*drydockv1.Refusal) error {
	head, err := x.change(ctx, func(head *drydockv1.Rollout) error {
		if head.GetAsked() == askAbort || state == statePaused && head.GetAsked() != askPause {
			return errAsked
		}
		head.State, head.Reason, head.Problems, head.Asked, head.Until = state, reason, problems, "", nil
		return nil
	})
	if err != nil {
		return err
	}
	x.Record(ctx, "rollout "+word(state), "rollout "+x.id, reason, nil)
	x.Log.Warn("rollout rests", "rollout", x.id, "state", word(state), "reason", reason, "problems", len(problems))
	if state == stateStopped {
		x.notify(head, "stopped", "", reason)
	}
	return nil
}

// finish ends the rollout, and sets its pool free.
func (x *execution) finish(ctx context.Context, hosts []*drydockv1.RolloutHost) error {
	return x.end(ctx, stateFinished, "finished", "", problemsOf(hosts))
}

func (x *execution) end(ctx context.Context, state drydockv1.RolloutState, event, reason string, problems []*drydockv1.Refusal) error {
	for {
		item, err := x.rollout(ctx, x.id)
		if err != nil {
			return err
		}
		record, err := x.poolRecord(ctx, x.pool.Name)
		if err != nil {
			return err
		}
		head := item.Value.GetRollout()
		head.State, head.Reason, head.Problems, head.Asked, head.Until, head.Ended = state, reason, problems, "", nil, timestamppb.New(x.Now())
		txn := x.Store.Txn().If(store.Unchanged(item.Key, item.Revision), store.Unchanged(record.Key, record.Revision)).Put(item.Key, item.Value)
		if record.Value.GetRollout() == x.id {
			record.Value.Rollout = ""
			txn.Put(record.Key, record.Value)
		}
		_, err = txn.Commit(ctx)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil {
			x.Record(ctx, "rollout "+word(state), "rollout "+x.id, "pool "+x.pool.Name, nil)
			x.Log.Info("rollout ended", "rollout", x.id, "state", word(state))
			x.notify(head, event, "", reason)
			x.changedNow()
		}
		return err
	}
}

func problemsOf(hosts []*drydockv1.RolloutHost) []*drydockv1.Refusal {
	var problems []*drydockv1.Refusal
	for _, h := range hosts {
		if h.GetState() != hostFailed {
			continue
		}
		for _, p := range h.GetProblems() {
			problems = append(problems, refusal.Because(fmt.Sprintf("host %s, %s: %s", h.GetHost(), h.GetStep(), p.GetReason()), p.GetRemedy()))
		}
	}
	return problems
}

// asked says whether an operator wants something else of the rollout.
func (x *execution) asked(ctx context.Context) error {
	head, err := x.head(ctx)
	if err == nil && head.GetAsked() != "" {
		return errAsked
	}
	return err
}

// by is whose cordons and migrations they are.
func (x *execution) by() string { return OwnerPrefix + x.id }
