package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods"

	"connectrpc.com/connect"
)

func (s *agentServer) GetLogs(ctx context.Context, req *connect.Request[drydockv1.GetPodLogsRequest], stream *connect.ServerStream[drydockv1.GetPodLogsResponse]) error {
	container, err := s.container(req.Msg.Pod, req.Msg.Container)
	if err != nil {
		return failed(err)
	}
	err = s.pods.Logs(ctx, req.Msg.Pod, container, int(req.Msg.Tail), req.Msg.Follow, sender(func(data []byte) error {
		return stream.Send(&drydockv1.GetPodLogsResponse{Data: data})
	}))
	if err != nil {
		return failed(err)
	}
	return nil
}

// sender is a writer that sends.
type sender func([]byte) error

func (s sender) Write(p []byte) (int, error) { return len(p), s(p) }

// container is the one that is named, or the pod's first.
func (s *agentServer) container(pod, name string) (string, error) {
	rec, err := s.pods.Record(pod)
	if err != nil {
		return "", err
	}
	if name == "" {
		return rec.Spec.Containers[0].Name, nil
	}
	for _, c := range rec.Spec.Containers {
		if c.Name == name {
			return name, nil
		}
	}
	return "", connect.NewError(connect.CodeNotFound, fmt.Errorf("pod %s has no container %s", pod, name))
}

func (s *agentServer) Exec(ctx context.Context, stream *connect.BidiStream[drydockv1.ExecRequest, drydockv1.ExecResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil || len(start.Command) == 0 {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("exec: no command"))
	}
	container, err := s.container(start.Pod, start.Container)
	if err = errors.Join(err, s.engine.Enter(start.Pod)); err != nil {
		return failed(err)
	}
	in := newExecInput(start)
	go in.read(stream)
	var sending sync.Mutex // stdout and stderr come side by side; a stream takes one message at a time
	send := func(res *drydockv1.ExecResponse) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(res)
	}
	code, err := s.pods.Exec(ctx, start.Pod, pods.Exec{
		Container: container, Command: start.Command, TTY: start.Tty, Stdin: in.stdin, Resize: in.resize, Signals: in.signals,
		Stdout: sender(func(data []byte) error {
			return send(&drydockv1.ExecResponse{Event: &drydockv1.ExecResponse_Stdout{Stdout: data}})
		}),
		Stderr: sender(func(data []byte) error {
			return send(&drydockv1.ExecResponse{Event: &drydockv1.ExecResponse_Stderr{Stderr: data}})
		}),
	})
	if err != nil {
		return failed(err)
	}
	return send(&drydockv1.ExecResponse{Event: &drydockv1.ExecResponse_ExitCode{ExitCode: int32(code)}})
}

// execInput takes apart what comes from the one who runs a command.
type execInput struct {
	stdin   *io.PipeReader
	to      *io.PipeWriter
	resize  chan [2]uint32
	signals chan syscall.Signal
}

func newExecInput(start *drydockv1.ExecRequest_Start) *execInput {
	r, w := io.Pipe()
	in := &execInput{stdin: r, to: w, resize: make(chan [2]uint32, 1), signals: make(chan syscall.Signal, 8)}
	if start.Tty && start.Columns > 0 {
		in.resize <- [2]uint32{start.Columns, start.Rows}
	}
	return in
}

func (in *execInput) read(stream *connect.BidiStream[drydockv1.ExecRequest, drydockv1.ExecResponse]) {
	defer in.to.Close()
	for {
		msg, err := stream.Receive()
		if err != nil {
			return
		}
		switch event := msg.Event.(type) {
		case *drydockv1.ExecRequest_Stdin:
			if _, err := in.to.Write(event.Stdin); err != nil {
				return
			}
		case *drydockv1.ExecRequest_StdinClosed:
			_ = in.to.Close()
		case *drydockv1.ExecRequest_Resize_:
			select {
			case in.resize <- [2]uint32{event.Resize.Columns, event.Resize.Rows}:
			default:
			}
		case *drydockv1.ExecRequest_Signal:
			select {
			case in.signals <- syscall.Signal(event.Signal):
			default:
			}
		}
	}
}
