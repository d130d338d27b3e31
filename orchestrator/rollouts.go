package orchestrator

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/rollout"
	"drydock/orchestrator/store"
)

// newRollouts makes what carries rollouts out.
func (c *Controller) newRollouts() *rollout.Rollouts {
	return rollout.New(rollout.Config{
		Store: c.store, Controller: forRollouts{c}, Pools: c.pools, Log: c.log, Now: func() time.Time { return c.now() }, Prefix: keyRoot,
		Timings: c.config.Timings, Fault: func(point string) error { return c.fault(point) },
	})
}

// rolloutService is RolloutService: rollouts answer for themselves, and the controller for pools and plans.
type rolloutService struct {
	rollout.Server
	c *Controller
}

func (s rolloutService) ListPools(ctx context.Context, _ *connect.Request[drydockv1.ListPoolsRequest]) (*connect.Response[drydockv1.ListPoolsResponse], error) {
	response, err := s.c.listPools(ctx)
	return respond(response, err)
}

func (s rolloutService) PlanPool(ctx context.Context, request *connect.Request[drydockv1.PlanPoolRequest]) (*connect.Response[drydockv1.PlanPoolResponse], error) {
	p, _, _, err := s.c.pools.Get(request.Msg.GetPool())
	if err != nil {
		return nil, err
	}
	planned, err := led(ctx, s.c, func(ctx context.Context, r *reign) (*drydockv1.PoolPlan, error) {
		return s.c.planPool(ctx, r, p, !request.Msg.GetWithoutRefresh())
	})
	return respond(&drydockv1.PlanPoolResponse{Plan: planned}, err)
}

// notOfARollout refuses to touch the cordon of a rollout that has not ended.
func (c *Controller) notOfARollout(ctx context.Context, what, name string) error {
	item, err := store.Get[drydockv1.HostRecord](ctx, c.store, hostKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return noHost(name)
	} else if err != nil {
		return err
	}
	return c.rollouts.MayTouch(ctx, what, item.Value.GetCordon())
}

// forRollouts is the controller as rollouts see it.
type forRollouts struct{ c *Controller }

var _ rollout.Controller = forRollouts{}

func (f forRollouts) Lead(ctx context.Context) (rollout.Term, error) {
	r, err := f.c.leading(ctx)
	if err != nil {
		return nil, err
	}
	return f.c.termOf(r), nil
}

func (f forRollouts) Lock(name string) func() { return f.c.locks.lock(name) }

func (f forRollouts) Requester(ctx context.Context) string { return requester(ctx) }

func (f forRollouts) MovesOf(ctx context.Context, by string) ([]*drydockv1.MigrationReport, error) {
	items, err := store.List[drydockv1.MigrationRecord](ctx, f.c.store, keyMigrations)
	if err != nil {
		return nil, err
	}
	var reports []*drydockv1.MigrationReport
	for _, item := range items {
		if item.Value.GetRequester() == by {
			reports = append(reports, reportOf(item.Value))
		}
	}
	return reports, nil
}
