package rollout

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
)

// Server is what RolloutService says of rollouts, as the leader answers it; of pools and plans the controller speaks for itself.
type Server struct{ Rollouts *Rollouts }

func respond[T any](message *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(message), nil
}

// led does what only the leader does, to its end even if the caller goes away.
func led[T any](ctx context.Context, s *Rollouts, work func(ctx context.Context, term Term) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var zero T
	term, err := s.Controller.Lead(ctx)
	if err != nil {
		return zero, err
	}
	done := make(chan result, 1)
	started := term.Go(func() {
		value, err := work(term.Context(), term)
		done <- result{value, err}
	})
	if !started {
		return zero, fmt.Errorf("leadership ended: %w", owner.ErrDeposed)
	}
	select {
	case got := <-done:
		return got.value, got.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// StartRollout implements drydockv1connect.RolloutServiceHandler, as do the others.
func (s Server) StartRollout(ctx context.Context, request *connect.Request[drydockv1.StartRolloutRequest]) (*connect.Response[drydockv1.StartRolloutResponse], error) {
	by := s.Rollouts.Controller.Requester(ctx)
	response, err := led(ctx, s.Rollouts, func(ctx context.Context, term Term) (*drydockv1.StartRolloutResponse, error) {
		return s.Rollouts.start(ctx, term, request.Msg.GetPool(), by)
	})
	return respond(response, err)
}

func (s Server) ListRollouts(ctx context.Context, request *connect.Request[drydockv1.ListRolloutsRequest]) (*connect.Response[drydockv1.ListRolloutsResponse], error) {
	rollouts, err := s.Rollouts.List(ctx, request.Msg.GetPool(), int(request.Msg.GetLimit()))
	return respond(&drydockv1.ListRolloutsResponse{Rollouts: rollouts}, err)
}

func (s Server) GetRollout(ctx context.Context, request *connect.Request[drydockv1.GetRolloutRequest]) (*connect.Response[drydockv1.GetRolloutResponse], error) {
	rollout, err := s.Rollouts.Get(ctx, request.Msg.GetId())
	return respond(&drydockv1.GetRolloutResponse{Rollout: rollout}, err)
}

// watchEvery is how often a rollout is looked at that this controller is not working on.
const watchEvery = time.Second

func (s Server) WatchRollout(ctx context.Context, request *connect.Request[drydockv1.WatchRolloutRequest], stream *connect.ServerStream[drydockv1.WatchRolloutResponse]) error {
	term, err := s.Rollouts.Controller.Lead(ctx)
	if err != nil {
		return err
	}
	var last *drydockv1.Rollout
	for {
		var changed <-chan struct{}
		if x := s.Rollouts.execution(request.Msg.GetId()); x != nil {
			changed = x.changes()
		}
		now, err := s.Rollouts.Get(ctx, request.Msg.GetId())
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
		case <-term.Context().Done():
			return connect.NewError(connect.CodeUnavailable, errLeaves(request.Msg.GetId()))
		}
	}
}

func (s Server) PauseRollout(ctx context.Context, request *connect.Request[drydockv1.PauseRolloutRequest]) (*connect.Response[drydockv1.PauseRolloutResponse], error) {
	rollout, err := s.order(ctx, request.Msg.GetId(), s.Rollouts.orderPause)
	return respond(&drydockv1.PauseRolloutResponse{Rollout: rollout}, err)
}

func (s Server) ResumeRollout(ctx context.Context, request *connect.Request[drydockv1.ResumeRolloutRequest]) (*connect.Response[drydockv1.ResumeRolloutResponse], error) {
	rollout, err := s.order(ctx, request.Msg.GetId(), s.Rollouts.orderResume)
	return respond(&drydockv1.ResumeRolloutResponse{Rollout: rollout}, err)
}

func (s Server) AbortRollout(ctx context.Context, request *connect.Request[drydockv1.AbortRolloutRequest]) (*connect.Response[drydockv1.AbortRolloutResponse], error) {
	rollout, err := s.order(ctx, request.Msg.GetId(), s.Rollouts.orderAbort)
	return respond(&drydockv1.AbortRolloutResponse{Rollout: rollout}, err)
}

func (s Server) ApproveGate(ctx context.Context, request *connect.Request[drydockv1.ApproveGateRequest]) (*connect.Response[drydockv1.ApproveGateResponse], error) {
	rollout, err := s.order(ctx, request.Msg.GetRollout(), func(ctx context.Context, term Term, id, by string) (*drydockv1.Rollout, error) {
		return s.Rollouts.approve(ctx, term, id, request.Msg.GetGate(), by)
	})
	return respond(&drydockv1.ApproveGateResponse{Rollout: rollout}, err)
}

func (s Server) order(ctx context.Context, id string, do func(ctx context.Context, term Term, id, by string) (*drydockv1.Rollout, error)) (*drydockv1.Rollout, error) {
	by := s.Rollouts.Controller.Requester(ctx)
	return led(ctx, s.Rollouts, func(ctx context.Context, term Term) (*drydockv1.Rollout, error) { return do(ctx, term, id, by) })
}
