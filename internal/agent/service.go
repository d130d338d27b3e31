package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"syscall"

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

// fetch gets an image from whichever host has it.
func (s *agentServer) fetch(ctx context.Context, reference, digest string, from []*drydockv1.Peer) error {
	if s.pods.HasImage(ctx, digest) {
		return nil
	}
	err := fmt.Errorf("image %s is on no host that can be reached: import it again", reference)
	for _, peer := range from {
		if peer.Name == s.here.Host {
			continue
		}
		if _, err = s.pods.Fetch(ctx, reference, digest, s.peers.Images(peer)); err == nil {
			return nil
		}
	}
	return err
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

func (s *agentServer) ImportArchive(ctx context.Context, stream *connect.ClientStream[drydockv1.ImportImageRequest]) (*connect.Response[drydockv1.ImportImageResponse], error) {
	if !stream.Receive() {
		return nil, failed(errors.Join(stream.Err(), errors.New("no archive was sent")))
	}
	reference := stream.Msg().GetHeader().GetReference()
	imported, err := s.pods.Import(ctx, &archiveReader{stream: stream, rest: stream.Msg().Data}, reference)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	response := &drydockv1.ImportImageResponse{}
	for _, img := range imported {
		response.Images = append(response.Images, s.image(img))
	}
	return connect.NewResponse(response), nil
}

func (s *agentServer) image(img pods.Image) *drydockv1.Image {
	return &drydockv1.Image{Reference: img.Reference, Digest: img.Digest, SizeBytes: img.Size, Hosts: []string{s.here.Host}}
}

type archiveReader struct {
	stream *connect.ClientStream[drydockv1.ImportImageRequest]
	rest   []byte
}

func (a *archiveReader) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if !a.stream.Receive() {
			if err := a.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		a.rest = a.stream.Msg().Data
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (s *agentServer) Pull(ctx context.Context, req *connect.Request[drydockv1.PullImageRequest]) (*connect.Response[drydockv1.PullImageResponse], error) {
	img, err := s.pods.Pull(ctx, req.Msg.Reference)
	return answer(&drydockv1.PullImageResponse{Image: s.image(img)}, err)
}

func (s *agentServer) FetchImage(ctx context.Context, req *connect.Request[drydockv1.FetchImageRequest]) (*connect.Response[drydockv1.FetchImageResponse], error) {
	err := s.fetch(ctx, req.Msg.Reference, req.Msg.Digest, req.Msg.From)
	return answer(&drydockv1.FetchImageResponse{Image: &drydockv1.Image{Reference: req.Msg.Reference, Digest: req.Msg.Digest}}, err)
}

func (s *agentServer) ListAgentImages(ctx context.Context, _ *connect.Request[drydockv1.ListAgentImagesRequest]) (*connect.Response[drydockv1.ListAgentImagesResponse], error) {
	list, err := s.images(ctx)
	return answer(&drydockv1.ListAgentImagesResponse{Images: list}, err)
}

func (a *agent) images(ctx context.Context) ([]*drydockv1.Image, error) {
	all, err := a.pods.Images(ctx)
	var list []*drydockv1.Image
	for _, img := range all {
		list = append(list, (&agentServer{a}).image(img))
	}
	return list, err
}

const blobPart = 256 << 10

func (s *agentServer) ReadBlob(ctx context.Context, req *connect.Request[drydockv1.ReadBlobRequest], stream *connect.ServerStream[drydockv1.ReadBlobResponse]) error {
	blob, err := s.pods.ReadBlob(ctx, req.Msg.Digest)
	if err != nil {
		return connect.NewError(connect.CodeNotFound, err)
	}
	defer blob.Close()
	buf := make([]byte, blobPart)
	for {
		n, err := blob.Read(buf)
		if n > 0 {
			if err := stream.Send(&drydockv1.ReadBlobResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failed(err)
		}
	}
}

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
