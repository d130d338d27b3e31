package upgrade

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
)

// Server is UpgradeService, as the leader answers it.
type Server struct{ Services *Services }

func respond[T any](message *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(message), nil
}

// led does what only the leader does, in its term and to its end even if the caller goes away.
func led[T any](ctx context.Context, s *Services, work func(ctx context.Context, by string) (T, error)) (T, error) {
	by := s.Controller.Requester(ctx)
	term, err := s.Controller.Lead(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	return work(term, by)
}

// ApplyService implements drydockv1connect.UpgradeServiceHandler, as do the others.
func (s Server) ApplyService(ctx context.Context, r *connect.Request[drydockv1.ApplyServiceRequest]) (*connect.Response[drydockv1.ApplyServiceResponse], error) {
	return respond(led(ctx, s.Services, func(ctx context.Context, by string) (*drydockv1.ApplyServiceResponse, error) {
		return s.Services.apply(ctx, r.Msg, by)
	}))
}

func (s Server) ListServices(ctx context.Context, _ *connect.Request[drydockv1.ListServicesRequest]) (*connect.Response[drydockv1.ListServicesResponse], error) {
	all, err := s.Services.list(ctx)
	return respond(&drydockv1.ListServicesResponse{Services: all}, err)
}

func (s Server) GetService(ctx context.Context, r *connect.Request[drydockv1.GetServiceRequest]) (*connect.Response[drydockv1.GetServiceResponse], error) {
	one, err := s.Services.get(ctx, r.Msg.GetName())
	return respond(&drydockv1.GetServiceResponse{Service: one}, err)
}

func (s Server) RemoveService(ctx context.Context, r *connect.Request[drydockv1.RemoveServiceRequest]) (*connect.Response[drydockv1.RemoveServiceResponse], error) {
	return respond(led(ctx, s.Services, func(ctx context.Context, _ string) (*drydockv1.RemoveServiceResponse, error) {
		return &drydockv1.RemoveServiceResponse{}, s.Services.remove(ctx, r.Msg.GetName())
	}))
}

func (s Server) SetFlag(ctx context.Context, r *connect.Request[drydockv1.SetFlagRequest]) (*connect.Response[drydockv1.SetFlagResponse], error) {
	return respond(led(ctx, s.Services, func(ctx context.Context, _ string) (*drydockv1.SetFlagResponse, error) {
		return &drydockv1.SetFlagResponse{}, s.Services.setFlag(ctx, r.Msg.GetName(), r.Msg.GetFlag(), r.Msg.GetClear())
	}))
}

func (s Server) StartUpgrade(ctx context.Context, r *connect.Request[drydockv1.StartUpgradeRequest]) (*connect.Response[drydockv1.StartUpgradeResponse], error) {
	return respond(led(ctx, s.Services, func(ctx context.Context, by string) (*drydockv1.StartUpgradeResponse, error) {
		u, err := s.Services.start(ctx, r.Msg, by)
		return &drydockv1.StartUpgradeResponse{Upgrade: u}, err
	}))
}

func (s Server) ListUpgrades(ctx context.Context, r *connect.Request[drydockv1.ListUpgradesRequest]) (*connect.Response[drydockv1.ListUpgradesResponse], error) {
	all, err := s.Services.listUpgrades(ctx, r.Msg.GetService(), int(r.Msg.GetLimit()))
	return respond(&drydockv1.ListUpgradesResponse{Upgrades: all}, err)
}

func (s Server) GetUpgrade(ctx context.Context, r *connect.Request[drydockv1.GetUpgradeRequest]) (*connect.Response[drydockv1.GetUpgradeResponse], error) {
	u, err := s.Services.whole(ctx, r.Msg.GetId())
	return respond(&drydockv1.GetUpgradeResponse{Upgrade: u}, err)
}

// watchEvery is how often an upgrade is looked at that nobody works on here.
const watchEvery = time.Second

func (s Server) WatchUpgrade(ctx context.Context, r *connect.Request[drydockv1.WatchUpgradeRequest], stream *connect.ServerStream[drydockv1.WatchUpgradeResponse]) error {
	id := r.Msg.GetId()
	term, err := s.Services.Controller.Lead(ctx)
	if err != nil {
		return err
	}
	var last *drydockv1.Upgrade
	for {
		var changed <-chan struct{}
		if x := s.Services.execution(id); x != nil {
			changed = x.changes()
		}
		now, err := s.Services.whole(ctx, id)
		if err != nil {
			return err
		}
		if !proto.Equal(last, now) {
			if err := stream.Send(&drydockv1.WatchUpgradeResponse{Upgrade: now}); err != nil {
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
		case <-term.Done():
			return connect.NewError(connect.CodeUnavailable, fmt.Errorf("this controller stops; upgrade %s goes on: see `drydock upgrade watch %s`", id, id))
		}
	}
}

func (s Server) PauseUpgrade(ctx context.Context, r *connect.Request[drydockv1.PauseUpgradeRequest]) (*connect.Response[drydockv1.PauseUpgradeResponse], error) {
	return respond(led(ctx, s.Services, func(ctx context.Context, by string) (*drydockv1.PauseUpgradeResponse, error) {
		u, err := s.Services.pauseUpgrade(ctx, r.Msg.GetId(), by)
		return &drydockv1.PauseUpgradeResponse{Upgrade: u}, err
	}))
}

func (s Server) ResumeUpgrade(ctx context.Context, r *connect.Request[drydockv1.ResumeUpgradeRequest]) (*connect.Response[drydockv1.ResumeUpgradeResponse], error) {
	return respond(led(ctx, s.Services, func(ctx context.Context, _ string) (*drydockv1.ResumeUpgradeResponse, error) {
		u, err := s.Services.resumeUpgrade(ctx, r.Msg.GetId())
		return &drydockv1.ResumeUpgradeResponse{Upgrade: u}, err
	}))
}

func (s Server) AbortUpgrade(ctx context.Context, r *connect.Request[drydockv1.AbortUpgradeRequest]) (*connect.Response[drydockv1.AbortUpgradeResponse], error) {
	return respond(led(ctx, s.Services, func(ctx context.Context, by string) (*drydockv1.AbortUpgradeResponse, error) {
		u, err := s.Services.abortUpgrade(ctx, r.Msg.GetId(), by)
		return &drydockv1.AbortUpgradeResponse{Upgrade: u}, err
	}))
}
