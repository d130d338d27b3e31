package rollout

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
)

// cordonHost keeps pods off the host. A cordon of an operator's is respected: the host is left out. One that an ended rollout
// of this pool has left is taken over.
func (x *execution) cordonHost(ctx context.Context, h *drydockv1.RolloutHost) error {
	known, err := x.Host(ctx, h.GetHost())
	if err != nil {
		return x.removed(h, err)
	}
	left, err := x.HasLeft(ctx, x.pool.Name, known.Record.GetCordon())
	if err != nil {
		return err
	}
	free := ""
	if known.Cordoned && left {
		free = known.Record.GetCordon().GetOwner()
	}
	return x.onRecord(ctx, h.GetHost(), func(record *drydockv1.HostRecord) error {
		owner := record.GetCordon().GetOwner()
		switch {
		case record.GetCordon() == nil, owner == free && record.GetCordon().GetDrain() == nil:
			record.Cordon = &drydockv1.Cordon{Owner: x.by(), Since: timestamppb.New(x.Now())}
		case owner != x.by():
			return &skipped{refusal.Because(fmt.Sprintf("host %s is cordoned by %s", h.GetHost(), owner), "patch the pool again once that cordon is lifted")}
		default:
			record.Cordon.Reason = ""
		}
		return nil
	})
}

// onRecord changes the record of a host that is known.
func (x *execution) onRecord(ctx context.Context, name string, change func(*drydockv1.HostRecord) error) error {
	err := x.ChangeHost(ctx, name, change)
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
