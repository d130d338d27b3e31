package orchestrator

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"sync"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/version"
)

// controllerService is ControllerService, as the leader answers it.
type controllerService struct{ c *Controller }

func (s controllerService) GetVersion(ctx context.Context, _ *connect.Request[drydockv1.GetVersionRequest]) (*connect.Response[drydockv1.GetVersionResponse], error) {
	leader, err := s.c.leader(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&drydockv1.GetVersionResponse{Version: version.String(), Api: version.API, Controller: s.c.config.Name, Leader: leader.Name}), nil
}

func (s controllerService) CreateJoinToken(ctx context.Context, request *connect.Request[drydockv1.CreateJoinTokenRequest]) (*connect.Response[drydockv1.CreateJoinTokenResponse], error) {
	response, err := s.c.createJoinToken(ctx, request.Msg.GetHost(), request.Msg.GetTtl().AsDuration())
	return respond(response, err)
}

func (s controllerService) ListHosts(ctx context.Context, _ *connect.Request[drydockv1.ListHostsRequest]) (*connect.Response[drydockv1.ListHostsResponse], error) {
	hosts, err := s.c.listHosts(ctx)
	return respond(&drydockv1.ListHostsResponse{Hosts: hosts}, err)
}

func (s controllerService) GetHost(ctx context.Context, request *connect.Request[drydockv1.GetHostRequest]) (*connect.Response[drydockv1.GetHostResponse], error) {
	host, err := s.c.getHost(ctx, request.Msg.GetName())
	return respond(&drydockv1.GetHostResponse{Host: host}, err)
}

func (s controllerService) DrainHost(ctx context.Context, request *connect.Request[drydockv1.DrainHostRequest], stream *connect.ServerStream[drydockv1.DrainHostResponse]) error {
	r, err := s.c.leading(ctx)
	if err != nil {
		return err
	}
	m := request.Msg
	if m.GetDryRun() {
		return s.c.tryDrain(ctx, r, m.GetName(), m.GetMode(), stream.Send)
	}
	d, err := s.c.drainHost(ctx, r, m.GetName(), s.c.trail.Actor(ctx), &drydockv1.Drain{Mode: m.GetMode(), Parallel: m.GetParallel()})
	if err != nil {
		return err
	}
	return d.watch(ctx, stream.Send)
}

func (s controllerService) ResumeHost(ctx context.Context, request *connect.Request[drydockv1.ResumeHostRequest]) (*connect.Response[drydockv1.ResumeHostResponse], error) {
	host, err := s.c.resumeHost(ctx, request.Msg.GetName())
	return respond(&drydockv1.ResumeHostResponse{Host: host}, err)
}

func (s controllerService) ConfirmHostDead(ctx context.Context, request *connect.Request[drydockv1.ConfirmHostDeadRequest]) (*connect.Response[drydockv1.ConfirmHostDeadResponse], error) {
	pods, err := s.c.confirmHostDead(ctx, request.Msg.GetName(), request.Msg.GetBootId())
	return respond(&drydockv1.ConfirmHostDeadResponse{Pods: pods}, err)
}

func (s controllerService) RemoveHost(ctx context.Context, request *connect.Request[drydockv1.RemoveHostRequest]) (*connect.Response[drydockv1.RemoveHostResponse], error) {
	return respond(&drydockv1.RemoveHostResponse{}, s.c.removeHost(ctx, request.Msg.GetName()))
}

func (s controllerService) DoctorHost(ctx context.Context, request *connect.Request[drydockv1.DoctorHostRequest]) (*connect.Response[drydockv1.DoctorHostResponse], error) {
	checks, err := s.c.doctor(ctx, request.Msg.GetName())
	return respond(&drydockv1.DoctorHostResponse{Checks: checks}, err)
}

func (s controllerService) GetHostStatus(ctx context.Context, request *connect.Request[drydockv1.GetHostStatusRequest]) (*connect.Response[drydockv1.GetHostStatusResponse], error) {
	response, err := s.c.hostStatus(ctx, request.Msg.GetName(), request.Msg.GetRefresh())
	return respond(response, err)
}

func (s controllerService) ListImages(ctx context.Context, _ *connect.Request[drydockv1.ListImagesRequest]) (*connect.Response[drydockv1.ListImagesResponse], error) {
	images, err := s.c.listImages(ctx)
	return respond(&drydockv1.ListImagesResponse{Images: images}, err)
}

func (s controllerService) RunPod(ctx context.Context, request *connect.Request[drydockv1.RunPodRequest], stream *connect.ServerStream[drydockv1.RunPodResponse]) error {
	r, err := s.c.leading(ctx)
	if err != nil {
		return err
	}
	if request.Msg.GetSpec() == nil {
		return invalid("run a pod: its specification is missing")
	}
	var gate sync.Mutex
	open := true
	progress := func(text string) {
		gate.Lock()
		defer gate.Unlock()
		if open {
			// An operator who went away needs no progress; the pod is made all the same.
			_ = stream.Send(&drydockv1.RunPodResponse{Event: &drydockv1.RunPodResponse_Progress{Progress: text}})
		}
	}
	pod, err := detached(ctx, r, func(ctx context.Context) (*drydockv1.Pod, error) {
		return s.c.runPod(ctx, r, request.Msg.GetSpec(), request.Msg.GetHost(), progress)
	})
	gate.Lock()
	defer gate.Unlock()
	open = false
	if err != nil {
		return err
	}
	return stream.Send(&drydockv1.RunPodResponse{Event: &drydockv1.RunPodResponse_Pod{Pod: pod}})
}

func (s controllerService) ListPods(ctx context.Context, request *connect.Request[drydockv1.ListPodsRequest]) (*connect.Response[drydockv1.ListPodsResponse], error) {
	pods, err := s.c.listPods(ctx, request.Msg.GetHost())
	return respond(&drydockv1.ListPodsResponse{Pods: pods}, err)
}

func (s controllerService) GetPod(ctx context.Context, request *connect.Request[drydockv1.GetPodRequest]) (*connect.Response[drydockv1.GetPodResponse], error) {
	pod, err := s.c.getPod(ctx, request.Msg.GetName())
	return respond(&drydockv1.GetPodResponse{Pod: pod}, err)
}

func (s controllerService) StartPod(ctx context.Context, request *connect.Request[drydockv1.StartPodRequest]) (*connect.Response[drydockv1.StartPodResponse], error) {
	pod, err := led(ctx, s.c, func(ctx context.Context, r *reign) (*drydockv1.Pod, error) {
		return s.c.startPod(ctx, r, request.Msg.GetName())
	})
	return respond(&drydockv1.StartPodResponse{Pod: pod}, err)
}

func (s controllerService) StopPod(ctx context.Context, request *connect.Request[drydockv1.StopPodRequest]) (*connect.Response[drydockv1.StopPodResponse], error) {
	pod, err := led(ctx, s.c, func(ctx context.Context, r *reign) (*drydockv1.Pod, error) {
		return s.c.stopPod(ctx, r, request.Msg.GetName(), request.Msg.GetGrace())
	})
	return respond(&drydockv1.StopPodResponse{Pod: pod}, err)
}

func (s controllerService) RemovePod(ctx context.Context, request *connect.Request[drydockv1.RemovePodRequest]) (*connect.Response[drydockv1.RemovePodResponse], error) {
	_, err := led(ctx, s.c, func(ctx context.Context, r *reign) (struct{}, error) {
		return struct{}{}, s.c.removePod(ctx, r, request.Msg.GetName(), request.Msg.GetForce())
	})
	return respond(&drydockv1.RemovePodResponse{}, err)
}

func (s controllerService) MigratePod(ctx context.Context, request *connect.Request[drydockv1.MigratePodRequest], stream *connect.ServerStream[drydockv1.MigratePodResponse]) error {
	r, err := s.c.leading(ctx)
	if err != nil {
		return err
	}
	report, err := s.c.migrate(ctx, r, request.Msg, s.c.trail.Actor(ctx), func(progress *drydockv1.MigrationProgress) error {
		return stream.Send(&drydockv1.MigratePodResponse{Event: &drydockv1.MigratePodResponse_Progress{Progress: progress}})
	})
	if err != nil {
		return err
	}
	return stream.Send(&drydockv1.MigratePodResponse{Event: &drydockv1.MigratePodResponse_Report{Report: report}})
}

func (s controllerService) ListMigrations(ctx context.Context, request *connect.Request[drydockv1.ListMigrationsRequest]) (*connect.Response[drydockv1.ListMigrationsResponse], error) {
	reports, err := s.c.listMigrations(ctx, request.Msg.GetPod(), int(request.Msg.GetLimit()))
	return respond(&drydockv1.ListMigrationsResponse{Migrations: reports}, err)
}

func (s controllerService) GetMigration(ctx context.Context, request *connect.Request[drydockv1.GetMigrationRequest]) (*connect.Response[drydockv1.GetMigrationResponse], error) {
	report, err := s.c.getMigration(ctx, request.Msg.GetId())
	return respond(&drydockv1.GetMigrationResponse{Migration: report}, err)
}

// chunk is how much of a backup goes into one message.
const chunk = 256 << 10

func (s controllerService) BackupStore(ctx context.Context, _ *connect.Request[drydockv1.BackupStoreRequest], stream *connect.ServerStream[drydockv1.BackupStoreResponse]) error {
	out := bufio.NewWriterSize(writerFunc(func(data []byte) (int, error) {
		return len(data), stream.Send(&drydockv1.BackupStoreResponse{Data: data})
	}), chunk)
	if err := s.c.store.Backup(ctx, out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("send the backup: %w", err)
	}
	return nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(data []byte) (int, error) { return f(data) }

var _ io.Writer = writerFunc(nil)

// led does what only the leader does, to its end even if the caller goes away.
func led[T any](ctx context.Context, c *Controller, work func(context.Context, *reign) (T, error)) (T, error) {
	r, err := c.leading(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	return detached(ctx, r, func(ctx context.Context) (T, error) { return work(ctx, r) })
}

func respond[T any](message *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(message), nil
}
