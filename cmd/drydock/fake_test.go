package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/status"
)

// fakeController knows three hosts and three pods, and answers by the names it is asked for: `absent` is not there,
// `stuck` cannot be acted on, `invalid` is no name, and `away` cannot be reached.
type fakeController struct {
	drydockv1connect.UnimplementedControllerServiceHandler

	mu       sync.Mutex
	requests []string
	empty    bool          // answer lists with nothing
	began    chan struct{} // where set, migrations say here that they began, and then wait for the call's end
	cut      bool          // instead of waiting, cut the connection
	gone     bool          // no migration is told of
}

var _ drydockv1connect.ControllerServiceHandler = (*fakeController)(nil)

func (f *fakeController) record(name string, m proto.Message) {
	data, _ := protojson.Marshal(m)
	var compact bytes.Buffer
	json.Compact(&compact, data)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, name+" "+compact.String())
}

// asked returns what it was asked since the last time.
func (f *fakeController) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.requests
	f.requests = nil
	return out
}

// times is how often a procedure was called since it was last said what was asked.
func (f *fakeController) times(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	times := 0
	for _, request := range f.requests {
		if strings.HasPrefix(request, name+" ") {
			times++
		}
	}
	return times
}

func (f *fakeController) fault(kind, name string) error {
	withDetails := func(err *connect.Error, refusals ...*v1.Refusal) error {
		for _, r := range refusals {
			if d, e := connect.NewErrorDetail(r); e == nil {
				err.AddDetail(d)
			}
		}
		return err
	}
	switch name {
	case "absent":
		return withDetails(connect.NewError(connect.CodeNotFound, fmt.Errorf("%s %q is not known", kind, name)),
			&v1.Refusal{Reason: fmt.Sprintf("%s %q is not known", kind, name), Remedy: fmt.Sprintf("see `drydock %s ls`", kind)})
	case "invalid":
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s %q: not a DNS label", kind, name))
	case "away":
		return connect.NewError(connect.CodeUnavailable, fmt.Errorf("%s %q: its agent does not answer", kind, name))
	case "stuck":
		return withDetails(connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s %q cannot be acted on", kind, name)),
			&v1.Refusal{Reason: "it uses io_uring", Remedy: "deny io_uring_setup in its seccomp profile"},
			&v1.Refusal{Reason: "h2 has no room", Remedy: "free 2 GiB of memory there"})
	}
	return nil
}

func answer[T any](m *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(m), nil
}

func (f *fakeController) GetVersion(_ context.Context, r *connect.Request[v1.GetVersionRequest]) (*connect.Response[v1.GetVersionResponse], error) {
	f.record("GetVersion", r.Msg)
	return answer(&v1.GetVersionResponse{Version: "v1.2.3", Api: 1, Controller: "c1", Leader: "c1"}, nil)
}

func (f *fakeController) CreateJoinToken(_ context.Context, r *connect.Request[v1.CreateJoinTokenRequest]) (*connect.Response[v1.CreateJoinTokenResponse], error) {
	f.record("CreateJoinToken", r.Msg)
	return answer(&v1.CreateJoinTokenResponse{Token: "drydock1.c2VjcmV0.cGlu",
		Expires: timestamppb.New(theTime().Add(r.Msg.Ttl.AsDuration()))}, f.fault("host", r.Msg.Host))
}

func (f *fakeController) ListHosts(_ context.Context, r *connect.Request[v1.ListHostsRequest]) (*connect.Response[v1.ListHostsResponse], error) {
	f.record("ListHosts", r.Msg)
	if f.empty {
		return answer(&v1.ListHostsResponse{}, nil)
	}
	return answer(&v1.ListHostsResponse{Hosts: someHosts()}, nil)
}

func (f *fakeController) GetHost(_ context.Context, r *connect.Request[v1.GetHostRequest]) (*connect.Response[v1.GetHostResponse], error) {
	f.record("GetHost", r.Msg)
	for _, h := range someHosts() {
		if h.Name == r.Msg.Name {
			return answer(&v1.GetHostResponse{Host: h}, nil)
		}
	}
	return answer(&v1.GetHostResponse{}, f.fault("host", r.Msg.Name))
}

func (f *fakeController) DrainHost(_ context.Context, r *connect.Request[v1.DrainHostRequest], s *connect.ServerStream[v1.DrainHostResponse]) error {
	f.record("DrainHost", r.Msg)
	if err := f.fault("host", r.Msg.Name); err != nil {
		return err
	}
	report := someReport("redis", "h2")
	report.DryRun = r.Msg.DryRun
	summary := &v1.DrainSummary{Moved: 1}
	if r.Msg.Name == "h2" {
		summary = &v1.DrainSummary{Moved: 1, Remaining: 1,
			Refusals: []*v1.Refusal{{Reason: "web: no host has its device", Remedy: "stop web"}}}
	}
	if r.Msg.Name == "h3" {
		summary = &v1.DrainSummary{Moved: 1, Remaining: 1}
	}
	for _, m := range []*v1.DrainHostResponse{
		{Event: &v1.DrainHostResponse_Progress{Progress: &v1.MigrationProgress{Migration: "m-1", Step: "dump", StepIndex: 6, StepCount: 10}}},
		{Event: &v1.DrainHostResponse_Report{Report: report}},
		{Event: &v1.DrainHostResponse_Summary{Summary: summary}},
	} {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeController) ResumeHost(_ context.Context, r *connect.Request[v1.ResumeHostRequest]) (*connect.Response[v1.ResumeHostResponse], error) {
	f.record("ResumeHost", r.Msg)
	return answer(&v1.ResumeHostResponse{Host: &v1.Host{Name: r.Msg.Name, State: "ready"}}, f.fault("host", r.Msg.Name))
}

func (f *fakeController) ConfirmHostDead(_ context.Context, r *connect.Request[v1.ConfirmHostDeadRequest]) (*connect.Response[v1.ConfirmHostDeadResponse], error) {
	f.record("ConfirmHostDead", r.Msg)
	return answer(&v1.ConfirmHostDeadResponse{Pods: []string{"redis", "web"}}, f.fault("host", r.Msg.Name))
}

func (f *fakeController) RemoveHost(_ context.Context, r *connect.Request[v1.RemoveHostRequest]) (*connect.Response[v1.RemoveHostResponse], error) {
	f.record("RemoveHost", r.Msg)
	return answer(&v1.RemoveHostResponse{}, f.fault("host", r.Msg.Name))
}

func (f *fakeController) DoctorHost(_ context.Context, r *connect.Request[v1.DoctorHostRequest]) (*connect.Response[v1.DoctorHostResponse], error) {
	f.record("DoctorHost", r.Msg)
	checks := []*v1.DoctorCheck{{Name: "criu", Ok: true, Detail: "4.2.1 dumps and restores"}}
	if r.Msg.Name == "h3" {
		checks = append(checks, &v1.DoctorCheck{Name: "memory", Detail: "swap is on", Remedy: "swapoff -a"})
	}
	return answer(&v1.DoctorHostResponse{Checks: checks}, f.fault("host", r.Msg.Name))
}

func (f *fakeController) GetHostStatus(_ context.Context, r *connect.Request[v1.GetHostStatusRequest]) (*connect.Response[v1.GetHostStatusResponse], error) {
	f.record("GetHostStatus", r.Msg)
	res := &v1.GetHostStatusResponse{}
	if r.Msg.Name == "h1" {
		res.Status = someStatus()
		res.Summary = status.Summarize(res.Status)
	}
	return answer(res, f.fault("host", r.Msg.Name))
}

func (f *fakeController) ImportImage(_ context.Context, s *connect.ClientStream[v1.ImportImageRequest]) (*connect.Response[v1.ImportImageResponse], error) {
	var header *v1.ImportImageHeader
	var data []byte
	for s.Receive() {
		if s.Msg().Header != nil {
			header = s.Msg().Header
		}
		data = append(data, s.Msg().Data...)
	}
	f.record("ImportImage", header)
	if !bytes.HasPrefix(data, []byte("archive")) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("image archive: neither OCI nor docker"))
	}
	return answer(&v1.ImportImageResponse{Images: []*v1.Image{
		{Reference: header.Reference, Digest: "sha256:0123456789abcdef0123", SizeBytes: int64(len(data)), Hosts: []string{"h1"}},
	}}, s.Err())
}

func (f *fakeController) PullImage(_ context.Context, r *connect.Request[v1.PullImageRequest]) (*connect.Response[v1.PullImageResponse], error) {
	f.record("PullImage", r.Msg)
	return answer(&v1.PullImageResponse{Image: someImages()[0]}, f.fault("image", r.Msg.Reference))
}

func (f *fakeController) ListImages(_ context.Context, r *connect.Request[v1.ListImagesRequest]) (*connect.Response[v1.ListImagesResponse], error) {
	f.record("ListImages", r.Msg)
	if f.empty {
		return answer(&v1.ListImagesResponse{}, nil)
	}
	return answer(&v1.ListImagesResponse{Images: someImages()}, nil)
}

func (f *fakeController) RunPod(_ context.Context, r *connect.Request[v1.RunPodRequest], s *connect.ServerStream[v1.RunPodResponse]) error {
	f.record("RunPod", r.Msg)
	if err := f.fault("pod", r.Msg.Spec.Name); err != nil {
		return err
	}
	if r.Msg.Spec.Name == "redis" {
		return connect.NewError(connect.CodeAlreadyExists, errors.New(`pod "redis" exists`))
	}
	pod := &v1.Pod{Spec: r.Msg.Spec, Phase: v1.PodPhase_POD_PHASE_RUNNING, Host: "h1", Created: timestamppb.New(theTime())}
	pod.Spec.Addresses = []string{"10.77.128.9/16"}
	return errors.Join(
		s.Send(&v1.RunPodResponse{Event: &v1.RunPodResponse_Progress{Progress: "placed on h1"}}),
		s.Send(&v1.RunPodResponse{Event: &v1.RunPodResponse_Pod{Pod: pod}}))
}

func (f *fakeController) ListPods(_ context.Context, r *connect.Request[v1.ListPodsRequest]) (*connect.Response[v1.ListPodsResponse], error) {
	f.record("ListPods", r.Msg)
	res := &v1.ListPodsResponse{}
	for _, p := range somePods() {
		if !f.empty && (r.Msg.Host == "" || r.Msg.Host == p.Host) {
			res.Pods = append(res.Pods, p)
		}
	}
	return answer(res, f.fault("host", r.Msg.Host))
}

func (f *fakeController) GetPod(ctx context.Context, r *connect.Request[v1.GetPodRequest]) (*connect.Response[v1.GetPodResponse], error) {
	f.record("GetPod", r.Msg)
	if r.Msg.Name == "slow" {
		<-ctx.Done()
		return nil, connect.NewError(connect.CodeDeadlineExceeded, ctx.Err()) // should this side notice first
	}
	return answer(&v1.GetPodResponse{Pod: somePods()[0]}, f.fault("pod", r.Msg.Name))
}

func (f *fakeController) StartPod(_ context.Context, r *connect.Request[v1.StartPodRequest]) (*connect.Response[v1.StartPodResponse], error) {
	f.record("StartPod", r.Msg)
	return answer(&v1.StartPodResponse{Pod: somePods()[0]}, f.fault("pod", r.Msg.Name))
}

func (f *fakeController) StopPod(_ context.Context, r *connect.Request[v1.StopPodRequest]) (*connect.Response[v1.StopPodResponse], error) {
	f.record("StopPod", r.Msg)
	p := somePods()[0]
	p.Phase = v1.PodPhase_POD_PHASE_STOPPED
	return answer(&v1.StopPodResponse{Pod: p}, f.fault("pod", r.Msg.Name))
}

func (f *fakeController) RemovePod(_ context.Context, r *connect.Request[v1.RemovePodRequest]) (*connect.Response[v1.RemovePodResponse], error) {
	f.record("RemovePod", r.Msg)
	return answer(&v1.RemovePodResponse{}, f.fault("pod", r.Msg.Name))
}

func (f *fakeController) GetPodLogs(_ context.Context, r *connect.Request[v1.GetPodLogsRequest], s *connect.ServerStream[v1.GetPodLogsResponse]) error {
	f.record("GetPodLogs", r.Msg)
	if err := f.fault("pod", r.Msg.Pod); err != nil {
		return err
	}
	return errors.Join(s.Send(&v1.GetPodLogsResponse{Data: []byte("one\n")}), s.Send(&v1.GetPodLogsResponse{Data: []byte("two\n")}))
}

func (f *fakeController) MigratePod(ctx context.Context, r *connect.Request[v1.MigratePodRequest], s *connect.ServerStream[v1.MigratePodResponse]) error {
	f.record("MigratePod", r.Msg)
	if err := f.fault("pod", r.Msg.Pod); err != nil {
		return err
	}
	for _, p := range someProgress() {
		if err := s.Send(&v1.MigratePodResponse{Event: &v1.MigratePodResponse_Progress{Progress: p}}); err != nil {
			return err
		}
	}
	if f.began != nil {
		if f.cut {
			panic(http.ErrAbortHandler) // what a client sees when the controller dies
		}
		close(f.began)
		<-ctx.Done()
		return ctx.Err()
	}
	if r.Msg.Pod == "cut" {
		return nil
	}
	report := someReport(r.Msg.Pod, r.Msg.To)
	report.DryRun = r.Msg.DryRun
	if report.DryRun {
		report.Outcome, report.Steps, report.Freeze = 0, nil, nil
	}
	return s.Send(&v1.MigratePodResponse{Event: &v1.MigratePodResponse_Report{Report: report}})
}

func (f *fakeController) ListMigrations(_ context.Context, r *connect.Request[v1.ListMigrationsRequest]) (*connect.Response[v1.ListMigrationsResponse], error) {
	f.record("ListMigrations", r.Msg)
	if f.empty {
		return answer(&v1.ListMigrationsResponse{}, nil)
	}
	return answer(&v1.ListMigrationsResponse{Migrations: []*v1.MigrationReport{someReport("redis", "h2"), someReport("aborted", "h2"), running()}}, nil)
}

func (f *fakeController) GetMigration(_ context.Context, r *connect.Request[v1.GetMigrationRequest]) (*connect.Response[v1.GetMigrationResponse], error) {
	f.record("GetMigration", r.Msg)
	if f.gone {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("no controller leads"))
	}
	f.mu.Lock()
	first := len(f.requests) == 1
	f.mu.Unlock()
	report := someReport("redis", "h2")
	if r.Msg.Id == "m-2" && first {
		report = running()
	}
	return answer(&v1.GetMigrationResponse{Migration: report}, f.fault("migration", r.Msg.Id))
}

func (f *fakeController) BackupStore(_ context.Context, r *connect.Request[v1.BackupStoreRequest], s *connect.ServerStream[v1.BackupStoreResponse]) error {
	f.record("BackupStore", r.Msg)
	if f.empty {
		return connect.NewError(connect.CodeUnavailable, errors.New("no leader"))
	}
	return errors.Join(s.Send(&v1.BackupStoreResponse{Data: []byte("snap")}), s.Send(&v1.BackupStoreResponse{Data: []byte("shot")}))
}

// ExecPod knows a few commands: echo, cat, err, and events, which writes what it is sent and ends at the first signal.
func (f *fakeController) ExecPod(_ context.Context, s *connect.BidiStream[v1.ExecRequest, v1.ExecResponse]) error {
	first, err := s.Receive()
	if err != nil {
		return err
	}
	start := first.GetStart()
	f.record("ExecPod", start)
	if err := f.fault("pod", start.Pod); err != nil {
		return err
	}
	stdout := func(data []byte) error {
		return s.Send(&v1.ExecResponse{Event: &v1.ExecResponse_Stdout{Stdout: data}})
	}
	exit := func(code int32) error {
		return s.Send(&v1.ExecResponse{Event: &v1.ExecResponse_ExitCode{ExitCode: code}})
	}
	switch start.Command[0] {
	default:
		return exit(127)
	case "cat":
	case "echo":
		return errors.Join(stdout([]byte(fmt.Sprintln(start.Command[1:]))), exit(0))
	case "err":
		return errors.Join(s.Send(&v1.ExecResponse{Event: &v1.ExecResponse_Stderr{Stderr: []byte("bad\n")}}), exit(42))
	case "vanish":
		return nil
	case "events":
		if err := stdout([]byte("ready\n")); err != nil {
			return err
		}
	}
	for {
		m, err := s.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := m.Event.(type) {
		case *v1.ExecRequest_Stdin:
			err = stdout(e.Stdin)
		case *v1.ExecRequest_StdinClosed:
			if start.Command[0] == "cat" {
				return exit(0)
			}
		case *v1.ExecRequest_Resize_:
			err = stdout(fmt.Appendf(nil, "resize %dx%d\n", e.Resize.Rows, e.Resize.Columns))
		case *v1.ExecRequest_Signal:
			return exit(100 + e.Signal)
		}
		if err != nil {
			return err
		}
	}
}

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(theTime().Add(-d)) }

func ms(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Millisecond) }
