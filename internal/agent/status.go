package agent

import (
	"context"
	"path/filepath"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status"
	"drydock/status/packages"
	"drydock/status/packages/apt"
	"drydock/status/packages/dnf"

	"connectrpc.com/connect"
)

// lookEvery is how often the host's status is looked at where nothing seems to change it: processes come and go.
const lookEvery = 10 * time.Minute

func (a *agent) newFresh() *status.Fresh {
	memory := packages.NewMemory(filepath.Join(a.cfg.DataDir, "packages.json"))
	var provider packages.Provider
	switch {
	case apt.Present():
		provider = &apt.Apt{Memory: memory, MaxAge: a.cfg.Packages.MaxAge, Now: time.Now, Advisories: filepath.Join(a.cfg.DataDir, "advisories")}
	case dnf.Present():
		provider = &dnf.Dnf{Memory: memory, MaxAge: a.cfg.Packages.MaxAge, Now: time.Now}
	}
	return &status.Fresh{
		Collector: status.NewCollector(provider, status.PodsBelow(a.cfg.CgroupParent), simulated()),
		Every:     lookEvery,
		Refresh:   a.cfg.Packages.RefreshInterval,
		Refreshed: func() (time.Time, error) {
			known, err := memory.Read()
			return known.Refreshed, err
		},
		Log: a.log,
	}
}

// addStatus adds the host's status to a report: all of it only where the controller has another.
func (a *agent) addStatus(req *drydockv1.ReportRequest) {
	latest := a.fresh.Latest()
	if latest == nil {
		return
	}
	req.Summary, req.StatusDigest = latest.Summary, latest.Digest
	if a.statusWanted {
		req.Status = latest.Status
	}
}

// RefreshStatus asks the host's package sources for what is new, and looks at everything again.
func (s *agentServer) RefreshStatus(ctx context.Context, _ *connect.Request[drydockv1.RefreshStatusRequest]) (*connect.Response[drydockv1.RefreshStatusResponse], error) {
	// apt that is interrupted leaves a lock and half a list: who asked may go away, apt goes on.
	latest, err := s.fresh.RefreshNow(context.WithoutCancel(ctx))
	if err != nil {
		return nil, failed(err)
	}
	return connect.NewResponse(&drydockv1.RefreshStatusResponse{Status: latest.Status, Summary: latest.Summary}), nil
}
