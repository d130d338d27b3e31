package agent

import (
	"context"

	drydockv1 "drydock/api/drydock/v1"

	"connectrpc.com/connect"
)

// receiveServer is what other agents ask when a pod comes here.
type receiveServer struct{ *agent }

func (s *receiveServer) Check(ctx context.Context, req *connect.Request[drydockv1.ReceiveCheckRequest]) (*connect.Response[drydockv1.ReceiveCheckResponse], error) {
	return answer(s.engine.Check(ctx, req.Msg))
}

func (s *receiveServer) Prepare(ctx context.Context, req *connect.Request[drydockv1.ReceivePrepareRequest]) (*connect.Response[drydockv1.ReceivePrepareResponse], error) {
	if err := s.fence.Admit(req.Msg.Needs.Spec.Name, req.Msg.Migration.Epoch, 0); err != nil {
		return nil, failed(err)
	}
	return answer(&drydockv1.ReceivePrepareResponse{}, s.engine.Prepare(ctx, req.Msg))
}

func (s *receiveServer) Ready(ctx context.Context, req *connect.Request[drydockv1.ReceiveReadyRequest]) (*connect.Response[drydockv1.ReceiveReadyResponse], error) {
	return answer(&drydockv1.ReceiveReadyResponse{}, s.engine.Ready(ctx, req.Msg.Pod, req.Msg.Migration))
}

func (s *receiveServer) Hold(ctx context.Context, req *connect.Request[drydockv1.ReceiveHoldRequest]) (*connect.Response[drydockv1.ReceiveHoldResponse], error) {
	return answer(&drydockv1.ReceiveHoldResponse{}, s.engine.Announce(ctx, req.Msg.Pod, req.Msg.Migration))
}

func (s *receiveServer) Restore(ctx context.Context, req *connect.Request[drydockv1.ReceiveRestoreRequest], stream *connect.ServerStream[drydockv1.ReceiveRestoreResponse]) error {
	last, err := s.engine.Arrived(ctx, req.Msg, func(event string) {
		_ = stream.Send(&drydockv1.ReceiveRestoreResponse{Event: event})
	})
	s.reportNow(context.WithoutCancel(ctx))
	return stream.Send(&drydockv1.ReceiveRestoreResponse{Result: s.engine.Result(req.Msg.Pod, last, err)})
}

func (s *receiveServer) Discard(ctx context.Context, req *connect.Request[drydockv1.ReceiveDiscardRequest]) (*connect.Response[drydockv1.ReceiveDiscardResponse], error) {
	return answer(&drydockv1.ReceiveDiscardResponse{}, s.engine.Discard(ctx, req.Msg.Pod, req.Msg.Migration))
}

func (s *receiveServer) GetState(ctx context.Context, req *connect.Request[drydockv1.ReceiveStateRequest]) (*connect.Response[drydockv1.ReceiveStateResponse], error) {
	return answer(s.engine.State(ctx, req.Msg.Pod, req.Msg.Migration))
}

func answer[T any](msg *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, failed(err)
	}
	return connect.NewResponse(msg), nil
}
