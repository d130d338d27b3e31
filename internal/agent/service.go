package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate"
	"drydock/migrate/owner"
	"drydock/patch"
	"drydock/pods"

	"connectrpc.com/connect"
)

// LeadershipHeader carries the revision under which a controller leads.
const LeadershipHeader = "Drydock-Leadership"

// agentServer is what controllers ask of a host.
type agentServer struct{ *agent }

// admit refuses orders of a controller that leads no more, and orders about a pod that are out of date.
func (s *agentServer) admit(req connect.AnyRequest, pod string, epoch uint64) error {
	var leader int64
	if value := req.Header().Get(LeadershipHeader); value != "" {
		var err error
		if leader, err = strconv.ParseInt(value, 10, 64); err != nil {
			return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("header %s: %w", LeadershipHeader, err))
		}
	}
	return s.fence.Admit(pod, epoch, leader)
}

func (s *agentServer) GetHostInfo(ctx context.Context, _ *connect.Request[drydockv1.GetHostInfoRequest]) (*connect.Response[drydockv1.GetHostInfoResponse], error) {
	info, err := s.host.Inspect(ctx)
	return answer(&drydockv1.GetHostInfoResponse{Info: info, BootId: s.here.BootID}, err)
}

func (s *agentServer) CheckPod(_ context.Context, req *connect.Request[drydockv1.CheckPodRequest]) (*connect.Response[drydockv1.CheckPodResponse], error) {
	return answer(&drydockv1.CheckPodResponse{Refusals: s.engine.Lacks(req.Msg.Spec)}, nil)
}

func (s *agentServer) CreatePod(ctx context.Context, req *connect.Request[drydockv1.CreatePodRequest]) (*connect.Response[drydockv1.CreatePodResponse], error) {
	spec := req.Msg.Spec
	if err := s.admit(req, spec.Name, req.Msg.Epoch); err != nil {
		return nil, failed(err)
	}
	if reasons := s.engine.Lacks(spec); len(reasons) > 0 {
		return nil, failed(&migrate.Refused{Reasons: reasons})
	}
	for _, c := range spec.Containers {
		if err := s.fetch(ctx, c.Image, c.ImageDigest, req.Msg.ImageHosts); err != nil {
			return nil, failed(err)
		}
	}
	known, err := s.patch.Coming()
	if err != nil {
		return nil, failed(err)
	}
	defer known()
	// The pod's start is not the caller's to cancel: the owner's record says that it runs here.
	ctx = context.WithoutCancel(ctx)
	if err := s.shims.prepare(ctx, spec); err != nil {
		return nil, failed(err)
	}
	if err := s.engine.Create(ctx, &pods.Record{Spec: spec, Epoch: req.Msg.Epoch, Role: pods.Owned}); err != nil {
		return nil, failed(err)
	}
	s.reportNow(ctx)
	pod, err := s.watching.status(ctx, spec.Name)
	return answer(&drydockv1.CreatePodResponse{Pod: pod}, err)
}

func (s *agentServer) StopAgentPod(ctx context.Context, req *connect.Request[drydockv1.StopAgentPodRequest]) (*connect.Response[drydockv1.StopAgentPodResponse], error) {
	if err := s.admit(req, req.Msg.Name, 0); err != nil && !errors.Is(err, owner.ErrFenced) {
		return nil, failed(err)
	}
	ctx = context.WithoutCancel(ctx)
	err := s.engine.Stop(ctx, req.Msg.Name, req.Msg.Grace.AsDuration())
	s.reportNow(ctx)
	return answer(&drydockv1.StopAgentPodResponse{}, err)
}

func (s *agentServer) RemoveAgentPod(ctx context.Context, req *connect.Request[drydockv1.RemoveAgentPodRequest]) (*connect.Response[drydockv1.RemoveAgentPodResponse], error) {
	return answer(&drydockv1.RemoveAgentPodResponse{}, s.engine.Remove(context.WithoutCancel(ctx), req.Msg.Name))
}

func (s *agentServer) ListAgentPods(ctx context.Context, _ *connect.Request[drydockv1.ListAgentPodsRequest]) (*connect.Response[drydockv1.ListAgentPodsResponse], error) {
	all, err := s.watching.all(ctx)
	return answer(&drydockv1.ListAgentPodsResponse{Pods: all}, err)
}

func (s *agentServer) Migrate(ctx context.Context, req *connect.Request[drydockv1.AgentMigrateRequest], stream *connect.ServerStream[drydockv1.MigratePodResponse]) error {
	spec := req.Msg.Spec
	if err := s.admit(req, spec.Pod, spec.Epoch); err != nil && !s.engine.Running(spec.Pod, spec.Id) {
		return failed(err)
	}
	if err := s.engine.Migrate(ctx, spec, stream.Send); err != nil {
		return failed(err)
	}
	return nil
}

// failed gives an error the code that its kind has on the wire.
func failed(err error) error {
	var known *connect.Error
	var refused *migrate.Refused
	var unpatched *patch.Refused
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused):
		return refusal(err, refused.Reasons)
	case errors.As(err, &unpatched):
		return refusal(err, unpatched.Reasons)
	case errors.Is(err, pods.ErrNotFound):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, owner.ErrFenced):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}

// refusal carries reasons, each with what would remove it.
func refusal(err error, reasons []*drydockv1.Refusal) *connect.Error {
	e := connect.NewError(connect.CodeFailedPrecondition, err)
	for _, reason := range reasons {
		if detail, derr := connect.NewErrorDetail(reason); derr == nil {
			e.AddDetail(detail)
		}
	}
	return e
}
