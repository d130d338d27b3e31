package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/patch"
	"drydock/patch/apt"
	"drydock/patch/dnf"
	"drydock/patch/grub"
	"drydock/status"
	statusapt "drydock/status/packages/apt"
	statusdnf "drydock/status/packages/dnf"

	"connectrpc.com/connect"
)

// settleWithin is how long containerd may take to answer after a boot.
const settleWithin = 30 * time.Second

// patchServer is what controllers ask of a host that they patch.
type patchServer struct{ *agent }

// newPatch makes the part of the agent that patches.
func (a *agent) newPatch() (*patch.Host, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pod := status.PodsBelow(a.cfg.CgroupParent)
	cfg := patch.Config{
		Dir: filepath.Join(a.cfg.DataDir, "patches"), Program: []string{program, "installer"},
		Look: a.look, Pods: a.podsHere, Containerd: a.pods.Version, Settle: settleWithin,
		Users: func(ctx context.Context, files []string) ([]string, error) {
			return status.PodsUsing(ctx, "/proc", files, pod)
		},
		Simulated: simulated(), RebootCommand: a.cfg.Reboot.Command, Boot: a.here.BootID, BootDir: "/boot", Run: "/run", Log: a.log,
		Grub: &grub.GRUB{Dir: "/boot/grub"},
	}
	cfg.Probe = a.prove
	switch provider := a.fresh.Collector.Packages.(type) {
	case *statusapt.Apt:
		cfg.Installer = &apt.Apt{Judge: provider}
	case *statusdnf.Dnf:
		cfg.Installer = &dnf.Dnf{Judge: provider, Unfinished: unfinished(cfg.Dir)}
	}
	return patch.New(cfg)
}

// simulated says whether a reboot of this host changes no kernel: it is of a lab, and shares it with others.
func simulated() bool { return os.Getenv("DRYDOCK_LAB") != "" }

// guard lets nothing but Drydock reboot the host while pods run on it.
func (a *agent) guard(ctx context.Context, all []*drydockv1.Pod) {
	running := slices.ContainsFunc(all, func(p *drydockv1.Pod) bool {
		return p.GetPhase() == drydockv1.PodPhase_POD_PHASE_RUNNING || p.GetPhase() == drydockv1.PodPhase_POD_PHASE_MOVING
	})
	err := a.patch.Guard(ctx, running)
	if err != nil && !a.unguarded {
		a.log.Warn("others may reboot this host while pods are on it", "error", err)
	}
	a.unguarded = err != nil
}

// look finds out what the host lacks now.
func (a *agent) look(ctx context.Context, refresh bool) (*drydockv1.HostStatus, error) {
	find := a.fresh.LookNow
	if refresh {
		find = a.fresh.RefreshNow
	}
	latest, err := find(ctx)
	if err != nil {
		return nil, err
	}
	return latest.Status, nil
}

// podsHere names every pod of which something may run here, or that the agent remembers.
func (a *agent) podsHere(ctx context.Context) ([]string, error) {
	remembered, err := a.engine.Remembered()
	if err != nil {
		return nil, err
	}
	present, err := a.pods.Present(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range remembered {
		if rec, err := a.pods.Record(name); err == nil && rec.Ended {
			continue // it ran to its end, and is not started again
		}
		if view := a.store.Look(ctx, name); view.Known && view.Record.State == owner.Stopped {
			continue // what it wrote stays here; while the host goes down it is not started
		}
		present = append(present, name)
	}
	slices.Sort(present)
	return slices.Compact(present), nil
}

// RunInstaller does the work on packages that lies in a directory. The agent starts it as a program of its own.
func RunInstaller(ctx context.Context, dir string) error {
	return patch.RunJob(ctx, dir, func(manager string) (patch.Installer, error) {
		switch manager {
		case "apt":
			return &apt.Apt{}, nil
		case "dnf":
			return &dnf.Dnf{Unfinished: unfinished(filepath.Dir(filepath.Dir(dir)))}, nil
		}
		return nil, fmt.Errorf("package manager %q is not known", manager)
	})
}

// unfinished is where dnf's installer writes down what rpm does not remember, within the directory of patches.
func unfinished(patches string) string { return filepath.Join(patches, "unfinished.json") }

// lead refuses orders of a controller that leads no more.
func (s *patchServer) lead(req connect.AnyRequest) error {
	if err := (&agentServer{s.agent}).admit(req, "", 0); err != nil {
		return failed(err)
	}
	return nil
}

func (s *patchServer) Resolve(ctx context.Context, req *connect.Request[drydockv1.ResolveRequest]) (*connect.Response[drydockv1.ResolveResponse], error) {
	return answer(s.patch.Resolve(ctx, req.Msg.Policy, req.Msg.Refresh))
}

func (s *patchServer) Download(ctx context.Context, req *connect.Request[drydockv1.DownloadRequest], stream *connect.ServerStream[drydockv1.DownloadResponse]) error {
	if err := s.lead(req); err != nil {
		return err
	}
	total := req.Msg.Patch.GetDownloadBytes()
	send := func(done int64, activity string) error {
		return stream.Send(&drydockv1.DownloadResponse{BytesDone: done, BytesTotal: total, Activity: activity})
	}
	err := s.patch.Download(ctx, req.Msg.Patch, func(percent int32, activity string) {
		_ = send(total*int64(percent)/100, activity) // who does not listen is told by the end
	})
	if err != nil {
		return failed(err)
	}
	return send(total, "downloaded")
}

func (s *patchServer) Apply(ctx context.Context, req *connect.Request[drydockv1.ApplyRequest], stream *connect.ServerStream[drydockv1.ApplyResponse]) error {
	if err := s.lead(req); err != nil {
		return err
	}
	m := req.Msg
	result, err := s.patch.Apply(ctx, patch.Order{ID: m.Id, Patch: m.Patch, Conffiles: m.Conffiles, Again: m.Again}, func(percent int32, activity string) {
		_ = stream.Send(&drydockv1.ApplyResponse{Percent: percent, Activity: activity}) // the work goes on without whoever listened
	})
	if err != nil {
		return failed(err)
	}
	return stream.Send(&drydockv1.ApplyResponse{Percent: 100, Activity: "ended", Result: result})
}

func (s *patchServer) Occupy(ctx context.Context, req *connect.Request[drydockv1.OccupyRequest]) (*connect.Response[drydockv1.OccupyResponse], error) {
	if err := s.lead(req); err != nil {
		return nil, err
	}
	held, automatic, err := s.patch.Occupy(ctx, req.Msg.Why)
	return answer(&drydockv1.OccupyResponse{Held: held, Automatic: automatic}, err)
}

func (s *patchServer) Release(_ context.Context, req *connect.Request[drydockv1.ReleaseRequest]) (*connect.Response[drydockv1.ReleaseResponse], error) {
	if err := s.lead(req); err != nil {
		return nil, err
	}
	return answer(&drydockv1.ReleaseResponse{}, s.patch.Release())
}

func (s *patchServer) Reboot(ctx context.Context, req *connect.Request[drydockv1.RebootRequest]) (*connect.Response[drydockv1.RebootResponse], error) {
	if err := s.lead(req); err != nil {
		return nil, err
	}
	return answer(s.patch.Reboot(ctx, req.Msg.BootId, req.Msg.Kernel, req.Msg.Reason))
}

func (s *patchServer) Verify(ctx context.Context, req *connect.Request[drydockv1.VerifyRequest]) (*connect.Response[drydockv1.VerifyResponse], error) {
	return answer(s.patch.Verify(ctx, req.Msg))
}

func (s *patchServer) RunHook(ctx context.Context, req *connect.Request[drydockv1.RunHookRequest]) (*connect.Response[drydockv1.RunHookResponse], error) {
	if err := s.lead(req); err != nil {
		return nil, err
	}
	return answer(s.patch.RunHook(ctx, req.Msg))
}
