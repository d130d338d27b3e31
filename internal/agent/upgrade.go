package agent

import (
	"context"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods"
	"drydock/pods/sidecar"

	"connectrpc.com/connect"
)

// TransformPod makes a stopped pod another version of itself. Where the caller goes away before the commit, it is left as it was.
func (s *agentServer) TransformPod(ctx context.Context, req *connect.Request[drydockv1.TransformPodRequest]) (*connect.Response[drydockv1.TransformPodResponse], error) {
	m := req.Msg
	if err := s.admit(req, m.Spec.GetName(), m.Epoch); err != nil {
		return nil, failed(err)
	}
	for _, c := range m.Spec.GetContainers() {
		if err := s.fetch(ctx, c.Image, c.ImageDigest, m.ImageHosts); err != nil {
			return nil, failed(err)
		}
	}
	err := s.engine.WithStopped(ctx, m.Spec.GetName(), func() error {
		if rec, err := s.pods.Record(m.Spec.GetName()); err != nil {
			return err
		} else if len(sidecar.In(rec.Spec)) == 0 {
			if err := s.shims.prepare(ctx, m.Spec); err != nil {
				return err
			}
		}
		return s.pods.Transform(ctx, pods.Transform{
			ID: m.Upgrade, Spec: m.Spec, Command: m.Command, Container: m.Container, Timeout: m.Timeout.AsDuration(), At: s.engine.At,
		})
	})
	if err != nil {
		return nil, failed(err)
	}
	s.watching.forget(m.Spec)
	return connect.NewResponse(&drydockv1.TransformPodResponse{}), nil
}

// RevertPod makes a stopped pod again what it was.
func (s *agentServer) RevertPod(ctx context.Context, req *connect.Request[drydockv1.RevertPodRequest]) (*connect.Response[drydockv1.RevertPodResponse], error) {
	pod := req.Msg.Pod
	if err := s.admit(req, pod, req.Msg.Epoch); err != nil {
		return nil, failed(err)
	}
	ctx = context.WithoutCancel(ctx)
	err := s.engine.WithStopped(ctx, pod, func() error { return s.pods.Revert(ctx, pod, req.Msg.Upgrade, s.engine.At) })
	if err != nil {
		return nil, failed(err)
	}
	if rec, err := s.pods.Record(pod); err == nil {
		s.watching.forget(rec.Spec)
	}
	return connect.NewResponse(&drydockv1.RevertPodResponse{}), nil
}

// SettlePod drops what RevertPod would need.
func (s *agentServer) SettlePod(ctx context.Context, req *connect.Request[drydockv1.SettlePodRequest]) (*connect.Response[drydockv1.SettlePodResponse], error) {
	pod := req.Msg.Pod
	if err := s.admit(req, pod, req.Msg.Epoch); err != nil {
		return nil, failed(err)
	}
	ctx = context.WithoutCancel(ctx)
	err := s.engine.WithHeld(ctx, pod, func() error { return s.pods.Settle(ctx, pod, req.Msg.Upgrade, s.engine.At) })
	return answer(&drydockv1.SettlePodResponse{}, err)
}
