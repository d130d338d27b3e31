package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
)

// agentRunning is the agent of the host that a pod is on.
func (c *Controller) agentRunning(ctx context.Context, what, pod string) (drydockv1connect.AgentServiceClient, string, error) {
	if _, err := c.pod(ctx, pod); err != nil {
		return nil, "", err
	}
	own, err := c.ownerOf(ctx, pod)
	if err != nil {
		return nil, "", err
	}
	if own.Owner.Host == "" {
		return nil, "", refuse(what, because("pod "+pod+" was never started", "see `drydock pod inspect "+pod+"`"))
	}
	agent, err := c.answeringAgent(ctx, what, own.Owner.Host)
	return agent, own.Owner.Host, err
}

// ExecPod relays a command's input and output between the operator and the pod's host.
func (s controllerService) ExecPod(ctx context.Context, operator *connect.BidiStream[drydockv1.ExecRequest, drydockv1.ExecResponse]) error {
	first, err := operator.Receive()
	if err != nil {
		return invalid("exec: the first message is missing")
	}
	if first.GetStart() == nil || len(first.GetStart().GetCommand()) == 0 {
		return invalid("exec: the first message must name a pod and a command")
	}
	agent, name, err := s.c.agentRunning(ctx, "exec in pod "+first.GetStart().GetPod(), first.GetStart().GetPod())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	remote := agent.Exec(ctx)
	if err := remote.Send(first); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("host %s: %w", name, err)
	}
	input := make(chan struct{})
	go func() {
		defer close(input)
		relayInput(operator, remote)
	}()
	err = relayOutput(operator, remote)
	cancel()
	if err != nil {
		return fmt.Errorf("host %s: %w", name, errors.Join(err, remote.CloseResponse()))
	}
	// The operator's stream ends with this call, and with it the other direction.
	return remote.CloseResponse()
}

type (
	operatorExec = connect.BidiStream[drydockv1.ExecRequest, drydockv1.ExecResponse]
	agentExec    = connect.BidiStreamForClient[drydockv1.ExecRequest, drydockv1.ExecResponse]
)

func relayInput(operator *operatorExec, remote *agentExec) {
	for {
		message, err := operator.Receive()
		if err != nil {
			// The host sees that no more comes; what it says of that comes with the output.
			_ = remote.CloseRequest()
			return
		}
		if err := remote.Send(message); err != nil {
			return
		}
	}
}

func relayOutput(operator *operatorExec, remote *agentExec) error {
	for {
		message, err := remote.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := operator.Send(message); err != nil {
			return err
		}
	}
}

// GetPodLogs relays a pod's output from its host.
func (s controllerService) GetPodLogs(ctx context.Context, request *connect.Request[drydockv1.GetPodLogsRequest], operator *connect.ServerStream[drydockv1.GetPodLogsResponse]) error {
	agent, name, err := s.c.agentRunning(ctx, "read the logs of pod "+request.Msg.GetPod(), request.Msg.GetPod())
	if err != nil {
		return err
	}
	remote, err := agent.GetLogs(ctx, connect.NewRequest(request.Msg))
	if err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	for remote.Receive() {
		if err := operator.Send(remote.Msg()); err != nil {
			return errors.Join(err, remote.Close())
		}
	}
	if err := remote.Err(); err != nil {
		return fmt.Errorf("host %s: %w", name, errors.Join(err, remote.Close()))
	}
	return remote.Close()
}

// ImportImage relays an archive to a host, and remembers what is in it.
func (s controllerService) ImportImage(ctx context.Context, operator *connect.ClientStream[drydockv1.ImportImageRequest]) (*connect.Response[drydockv1.ImportImageResponse], error) {
	if !operator.Receive() {
		return nil, invalid("import: the first message is missing")
	}
	if operator.Msg().GetHeader() == nil {
		return nil, invalid("import: the first message must have a header")
	}
	r, err := s.c.leading(ctx)
	if err != nil {
		return nil, err
	}
	ctx = withTerm(ctx, r.term)
	h, err := s.c.importTarget(ctx, operator.Msg().GetHeader().GetHost())
	if err != nil {
		return nil, err
	}
	agent, err := s.c.agents.at(h.record)
	if err != nil {
		return nil, err
	}
	remote := agent.ImportArchive(ctx)
	sent := remote.Send(operator.Msg())
	for sent == nil && operator.Receive() {
		sent = remote.Send(operator.Msg())
	}
	if err := operator.Err(); err != nil {
		return nil, err
	}
	// Why a host takes no more is in its answer.
	response, err := remote.CloseAndReceive()
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.name(), err)
	}
	if err := s.c.noteImages(ctx, h.name(), response.Msg.GetImages()); err != nil {
		return nil, err
	}
	for _, image := range response.Msg.GetImages() {
		image.Hosts = []string{h.name()}
	}
	return connect.NewResponse(response.Msg), nil
}

// PullImage has a host get an image from its registry.
func (s controllerService) PullImage(ctx context.Context, request *connect.Request[drydockv1.PullImageRequest]) (*connect.Response[drydockv1.PullImageResponse], error) {
	r, err := s.c.leading(ctx)
	if err != nil {
		return nil, err
	}
	full, err := familiar(request.Msg.GetReference())
	if err != nil {
		return nil, err
	}
	h, err := s.c.importTarget(ctx, request.Msg.GetHost())
	if err != nil {
		return nil, err
	}
	agent, err := s.c.agents.at(h.record)
	if err != nil {
		return nil, err
	}
	ask := &drydockv1.PullImageRequest{Reference: full, Host: h.name()}
	response, err := agent.Pull(withTerm(ctx, r.term), connect.NewRequest(ask))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.name(), err)
	}
	if err := s.c.noteImages(ctx, h.name(), []*drydockv1.Image{response.Msg.GetImage()}); err != nil {
		return nil, err
	}
	return connect.NewResponse(response.Msg), nil
}
