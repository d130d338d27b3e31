package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/store"
)

// cordonHost keeps pods off the host. A cordon of an operator's is respected: the host is left out. One that an ended rollout
// of this pool has left is taken over.
func (x *execution) cordonHost(ctx context.Context, h *drydockv1.RolloutHost) error {
	free := ""
	if known, err := x.host(ctx, h.GetHost()); err != nil {
		return x.removed(h, err)
	} else if x.newSurvey(x.r, x.pool, x.by()).ownCordon(ctx, known) {
		free = known.record.GetCordon().GetOwner()
	}
	return x.onRecord(ctx, h.GetHost(), func(record *drydockv1.HostRecord) error {
		owner := record.GetCordon().GetOwner()
		switch {
		case record.GetCordon() == nil, owner == free && record.GetCordon().GetDrain() == nil:
			record.Cordon = &drydockv1.Cordon{Owner: x.by(), Since: timestamppb.New(x.now())}
		case owner != x.by():
			return &skipped{because(fmt.Sprintf("host %s is cordoned by %s", h.GetHost(), owner), "patch the pool again once that cordon is lifted")}
		default:
			record.Cordon.Reason = ""
		}
		return nil
	})
}

// onRecord changes the record of a host that is known.
func (x *execution) onRecord(ctx context.Context, name string, change func(*drydockv1.HostRecord) error) error {
	_, err := journal(ctx, x.Controller, x.r, hostKey(name), func(record *drydockv1.HostRecord) error {
		if record.GetName() == "" {
			return noHost(name)
		}
		return change(record)
	})
	if connect.CodeOf(err) == connect.CodeNotFound {
		return x.removed(&drydockv1.RolloutHost{Host: name}, err)
	}
	return err
}

// uncordon lifts the rollout's own cordon, and no other.
func (x *execution) uncordon(ctx context.Context, h *drydockv1.RolloutHost) error {
	return x.onRecord(ctx, h.GetHost(), func(record *drydockv1.HostRecord) error {
		if record.GetCordon().GetOwner() == x.by() {
			record.Cordon = nil
		}
		return nil
	})
}

// explainCordon has the rollout's cordon say why it stays.
func (x *execution) explainCordon(ctx context.Context, name, why string) error {
	err := x.onRecord(ctx, name, func(record *drydockv1.HostRecord) error {
		if record.GetCordon().GetOwner() == x.by() {
			record.Cordon.Reason = why
		}
		return nil
	})
	var removed *setback
	if errors.As(err, &removed) {
		return nil
	}
	return err
}

// notOfARollout refuses to touch the cordon of a rollout that has not ended.
func (c *Controller) notOfARollout(ctx context.Context, what, name string) error {
	item, err := store.Get[drydockv1.HostRecord](ctx, c.store, hostKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return noHost(name)
	} else if err != nil {
		return err
	}
	id, ok := strings.CutPrefix(item.Value.GetCordon().GetOwner(), rolloutOwner)
	if !ok {
		return nil
	}
	record, err := c.rollout(ctx, id)
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil
	} else if err != nil {
		return err
	}
	if over(record.Value.GetRollout().GetState()) {
		return nil
	}
	return refuse(what, because("rollout "+id+" patches it", "wait until `drydock rollout show "+id+"` says that it has ended, or run `drydock rollout abort "+id+"`"))
}
