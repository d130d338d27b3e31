package orchestrator

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/store"
)

// storeStatus keeps a host's status where the report brings one, and returns the digest of the one that is kept. Hosts send all
// of it only when they are told that theirs is another. One that cannot be kept is no reason to turn the report down: a host that
// could not report would count as unreachable.
func (c *Controller) storeStatus(ctx context.Context, h host, m *drydockv1.ReportRequest) string {
	if m.GetStatus() == nil || m.GetStatusDigest() == h.report.GetStatusDigest() {
		return h.report.GetStatusDigest()
	}
	if _, err := c.store.Txn().Put(statusKey(h.name()), m.GetStatus()).Commit(ctx); err != nil {
		c.log.Warn("status of a host is not kept", "host", h.name(), "error", err)
		return h.report.GetStatusDigest()
	}
	return m.GetStatusDigest()
}

// hostStatus is what a host lacks: as it reported last, or, where that is asked for, as it is now.
func (c *Controller) hostStatus(ctx context.Context, name string, refresh bool) (*drydockv1.GetHostStatusResponse, error) {
	if refresh {
		agent, err := c.answeringAgent(ctx, "refresh the status of host "+name, name)
		if err != nil {
			return nil, err
		}
		fresh, err := agent.RefreshStatus(ctx, connect.NewRequest(&drydockv1.RefreshStatusRequest{}))
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", name, err)
		}
		return &drydockv1.GetHostStatusResponse{Status: fresh.Msg.GetStatus(), Summary: fresh.Msg.GetSummary()}, nil
	}
	h, err := c.host(ctx, name)
	if err != nil {
		return nil, err
	}
	item, err := store.Get[drydockv1.HostStatus](ctx, c.store, statusKey(name))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return &drydockv1.GetHostStatusResponse{Status: item.Value, Summary: h.report.GetSummary()}, nil
}
