package orchestrator

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
)

// rolloutService is RolloutService, as the leader answers it.
type rolloutService struct{ c *Controller }

func (s rolloutService) ListPools(ctx context.Context, _ *connect.Request[drydockv1.ListPoolsRequest]) (*connect.Response[drydockv1.ListPoolsResponse], error) {
	response, err := s.c.listPools(ctx)
	return respond(response, err)
}

func (s rolloutService) PlanPool(ctx context.Context, request *connect.Request[drydockv1.PlanPoolRequest]) (*connect.Response[drydockv1.PlanPoolResponse], error) {
	p, _, _, err := s.c.pools.get(request.Msg.GetPool())
	if err != nil {
		return nil, err
	}
	planned, err := led(ctx, s.c, func(ctx context.Context, r *reign) (*drydockv1.PoolPlan, error) {
		return s.c.planPool(ctx, r, p, !request.Msg.GetWithoutRefresh())
	})
	return respond(&drydockv1.PlanPoolResponse{Plan: planned}, err)
}

func (s rolloutService) StartRollout(ctx context.Context, request *connect.Request[drydockv1.StartRolloutRequest]) (*connect.Response[drydockv1.StartRolloutResponse], error) {
	by := requester(ctx)
	response, err := led(ctx, s.c, func(ctx context.Context, r *reign) (*drydockv1.StartRolloutResponse, error) {
		return s.c.startRollout(ctx, r, request.Msg.GetPool(), by)
	})
	return respond(response, err)
}

func (s rolloutService) ListRollouts(ctx context.Context, request *connect.Request[drydockv1.ListRolloutsRequest]) (*connect.Response[drydockv1.ListRolloutsResponse], error) {
	rollouts, err := s.c.listRollouts(ctx, request.Msg.GetPool(), int(request.Msg.GetLimit()))
	return respond(&drydockv1.ListRolloutsResponse{Rollouts: rollouts}, err)
}

func (s rolloutService) GetRollout(ctx context.Context, request *connect.Request[drydockv1.GetRolloutRequest]) (*connect.Response[drydockv1.GetRolloutResponse], error) {
	rollout, err := s.c.wholeRollout(ctx, request.Msg.GetId())
	return respond(&drydockv1.GetRolloutResponse{Rollout: rollout}, err)
}

// watchEvery is how often a rollout is looked at that this controller is not working on.
const watchEvery = time.Second

func (s rolloutService) WatchRollout(ctx context.Context, request *connect.Request[drydockv1.WatchRolloutRequest], stream *connect.ServerStream[drydockv1.WatchRolloutResponse]) error {
	r, err := s.c.leading(ctx)
	if err != nil {
		return err
	}
	var last *drydockv1.Rollout
	for {
		changed := r.changes(request.Msg.GetId())
		now, err := s.c.wholeRollout(ctx, request.Msg.GetId())
		if err != nil {
			return err
		}
		if !proto.Equal(last, now) {
			if err := stream.Send(&drydockv1.WatchRolloutResponse{Rollout: now}); err != nil {
				return err
			}
			last = now
		}
		if !active(now.GetState()) {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(watchEvery):
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ctx.Done():
			return connect.NewError(connect.CodeUnavailable, errLeaves(request.Msg.GetId()))
		}
	}
}

func (s rolloutService) PauseRollout(ctx context.Context, request *connect.Request[drydockv1.PauseRolloutRequest]) (*connect.Response[drydockv1.PauseRolloutResponse], error) {
	rollout, err := s.order(ctx, request.Msg.GetId(), s.c.pauseRollout)
	return respond(&drydockv1.PauseRolloutResponse{Rollout: rollout}, err)
}

func (s rolloutService) ResumeRollout(ctx context.Context, request *connect.Request[drydockv1.ResumeRolloutRequest]) (*connect.Response[drydockv1.ResumeRolloutResponse], error) {
	rollout, err := s.order(ctx, request.Msg.GetId(), s.c.resumeRollout)
	return respond(&drydockv1.ResumeRolloutResponse{Rollout: rollout}, err)
}

func (s rolloutService) AbortRollout(ctx context.Context, request *connect.Request[drydockv1.AbortRolloutRequest]) (*connect.Response[drydockv1.AbortRolloutResponse], error) {
	rollout, err := s.order(ctx, request.Msg.GetId(), s.c.abortRollout)
	return respond(&drydockv1.AbortRolloutResponse{Rollout: rollout}, err)
}

func (s rolloutService) ApproveGate(ctx context.Context, request *connect.Request[drydockv1.ApproveGateRequest]) (*connect.Response[drydockv1.ApproveGateResponse], error) {
	rollout, err := s.order(ctx, request.Msg.GetRollout(), func(ctx context.Context, r *reign, id, by string) (*drydockv1.Rollout, error) {
		return s.c.approveGate(ctx, r, id, request.Msg.GetGate(), by)
	})
	return respond(&drydockv1.ApproveGateResponse{Rollout: rollout}, err)
}

func (s rolloutService) order(ctx context.Context, id string, do func(ctx context.Context, r *reign, id, by string) (*drydockv1.Rollout, error)) (*drydockv1.Rollout, error) {
	by := requester(ctx)
	return led(ctx, s.c, func(ctx context.Context, r *reign) (*drydockv1.Rollout, error) { return do(ctx, r, id, by) })
}
