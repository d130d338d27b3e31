package agent

import (
	"context"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/version"
)

// reportEvery is how often a host reports where no controller says otherwise.
const reportEvery = 2 * time.Second

// report tells a controller again and again that this host lives and what it holds, and takes in what it answers.
func (a *agent) report(ctx context.Context) error {
	for {
		every := reportEvery
		res, err := a.reportOnce(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("no controller takes this host's report", "error", err)
		}
		if interval := res.GetInterval().AsDuration(); interval > 0 {
			every = interval
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		case <-a.watching.changed:
		}
	}
}

// reportWithin is how long an order waits for its report to be taken.
const reportWithin = 2 * time.Second

// reportNow reports what an order has changed, so that whoever gave it sees that when it is answered. If that fails the next
// report says it.
func (a *agent) reportNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	if _, err := a.reportOnce(ctx); err != nil {
		a.log.Debug("the next report says it", "error", err)
	}
}

// reportOnce reports what is there now. An earlier state is never reported after a later one.
func (a *agent) reportOnce(ctx context.Context) (*drydockv1.ReportResponse, error) {
	a.reporting.Lock()
	defer a.reporting.Unlock()
	info, err := a.host.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	a.network.describe(info)
	info.Labels = a.cfg.Labels
	all, err := a.watching.all(ctx)
	if err != nil {
		return nil, err
	}
	a.guard(ctx, all)
	images, err := a.images(ctx)
	if err != nil {
		return nil, err
	}
	req := &drydockv1.ReportRequest{BootId: a.here.BootID, Address: a.cfg.Listen, Info: info, Pods: all, Images: images, PeersRevision: a.peers.current()}
	a.addStatus(req)
	res, err := a.store.report(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := version.Check("the controller", version.API, res.Api); err != nil {
		return nil, err
	}
	a.statusWanted = res.WantStatus
	res.Peers = a.peers.learn(res)
	a.network.learn(ctx, res)
	return res, nil
}
