package agent

import (
	"context"
	"errors"
	"fmt"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/internal/pki"

	"connectrpc.com/connect"
)

// isCaller refuses a call in which a host gives itself another name than its certificate does.
func isCaller(ctx context.Context, name string) error {
	id, ok := pki.FromContext(ctx)
	if !ok || id.Kind != pki.Host || id.Name != name {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the caller's certificate is %s's, and not host %s's", id, name))
	}
	return nil
}

// fromSource refuses a call about a migration from another host than its source.
func (s *receiveServer) fromSource(ctx context.Context, pod, migration string) error {
	id, ok := pki.FromContext(ctx)
	if !ok || id.Kind != pki.Host {
		return connect.NewError(connect.CodePermissionDenied, errors.New("only a host may ask this"))
	}
	if err := s.engine.FromSource(pod, migration, id.Name); err != nil {
		return connect.NewError(connect.CodePermissionDenied, err)
	}
	return nil
}

// receiveServer is what other agents ask when a pod comes here.
type receiveServer struct{ *agent }

func (s *receiveServer) Check(ctx context.Context, req *connect.Request[drydockv1.ReceiveCheckRequest]) (*connect.Response[drydockv1.ReceiveCheckResponse], error) {
	return answer(s.engine.Check(ctx, req.Msg))
}

func (s *receiveServer) Prepare(ctx context.Context, req *connect.Request[drydockv1.ReceivePrepareRequest]) (*connect.Response[drydockv1.ReceivePrepareResponse], error) {
	// Images come from the host that is named here, and only it may send the rest.
	if err := isCaller(ctx, req.Msg.Source.GetName()); err != nil {
		return nil, err
	}
	if err := s.fence.Admit(req.Msg.Needs.GetSpec().GetName(), req.Msg.Migration.GetEpoch(), 0); err != nil {
		return nil, failed(err)
	}
	known, err := s.patch.Coming()
	if err != nil {
		return nil, failed(err)
	}
	defer known()
	return answer(&drydockv1.ReceivePrepareResponse{}, s.engine.Prepare(ctx, req.Msg))
}

func (s *receiveServer) Ready(ctx context.Context, req *connect.Request[drydockv1.ReceiveReadyRequest]) (*connect.Response[drydockv1.ReceiveReadyResponse], error) {
	if err := s.fromSource(ctx, req.Msg.Pod, req.Msg.Migration); err != nil {
		return nil, err
	}
	return answer(&drydockv1.ReceiveReadyResponse{}, s.engine.Ready(ctx, req.Msg.Pod, req.Msg.Migration))
}

func (s *receiveServer) Hold(ctx context.Context, req *connect.Request[drydockv1.ReceiveHoldRequest]) (*connect.Response[drydockv1.ReceiveHoldResponse], error) {
	if err := s.fromSource(ctx, req.Msg.Pod, req.Msg.Migration); err != nil {
		return nil, err
	}
	return answer(&drydockv1.ReceiveHoldResponse{}, s.engine.Announce(ctx, req.Msg.Pod, req.Msg.Migration))
}

func (s *receiveServer) Restore(ctx context.Context, req *connect.Request[drydockv1.ReceiveRestoreRequest], stream *connect.ServerStream[drydockv1.ReceiveRestoreResponse]) error {
	if err := s.fromSource(ctx, req.Msg.Pod, req.Msg.Migration); err != nil {
		return err
	}
	last, err := s.engine.Arrived(ctx, req.Msg, func(event string) {
		_ = stream.Send(&drydockv1.ReceiveRestoreResponse{Event: event})
	})
	s.reportNow(context.WithoutCancel(ctx))
	return stream.Send(&drydockv1.ReceiveRestoreResponse{Result: s.engine.Result(req.Msg.Pod, last, err)})
}

func (s *receiveServer) Discard(ctx context.Context, req *connect.Request[drydockv1.ReceiveDiscardRequest]) (*connect.Response[drydockv1.ReceiveDiscardResponse], error) {
	if err := s.fromSource(ctx, req.Msg.Pod, req.Msg.Migration); err != nil {
		return nil, err
	}
	return answer(&drydockv1.ReceiveDiscardResponse{}, s.engine.Discard(ctx, req.Msg.Pod, req.Msg.Migration))
}

func (s *receiveServer) GetState(ctx context.Context, req *connect.Request[drydockv1.ReceiveStateRequest]) (*connect.Response[drydockv1.ReceiveStateResponse], error) {
	if pod := req.Msg.Pod; pod != "" && !config.ValidName(pod) {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is no name of a pod", pod))
	}
	return answer(s.engine.State(ctx, req.Msg.Pod, req.Msg.Migration))
}

func answer[T any](msg *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, failed(err)
	}
	return connect.NewResponse(msg), nil
}
