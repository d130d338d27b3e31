package rig

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
)

// lookAgain is how often a controller that is starting is asked.
const lookAgain = 50 * time.Millisecond

// Join gets a host of a lab its token from the lab's controller, which may be starting.
func Join(ctx context.Context, l *lab.Lab, host string) (string, error) {
	client := Client(l)
	for {
		res, err := client.CreateJoinToken(ctx, connect.NewRequest(&drydockv1.CreateJoinTokenRequest{Host: host}))
		if err == nil {
			return res.Msg.Token, nil
		}
		if connect.CodeOf(err) != connect.CodeUnavailable {
			return "", fmt.Errorf("token for host %s: %w", host, err)
		}
		if err := pause(ctx); err != nil {
			return "", fmt.Errorf("the lab's controller does not answer: %w; see %s", err, l.LogDir(lab.ControllerNode))
		}
	}
}

// Ready waits until the controller has heard from every host, none of them has a problem, and every two have tried the
// network between them: pods can move wherever it lets them.
func Ready(ctx context.Context, l *lab.Lab, hosts []string) error {
	client := Client(l)
	for {
		res, err := client.ListHosts(ctx, connect.NewRequest(&drydockv1.ListHostsRequest{}))
		if err == nil && allReady(res.Msg.Hosts, hosts) {
			return nil
		}
		if perr := pause(ctx); perr != nil {
			return fmt.Errorf("the hosts are not all ready (%s): %w", notReady(res, hosts), perr)
		}
	}
}

func allReady(known []*drydockv1.Host, hosts []string) bool {
	ready := 0
	for _, h := range known {
		if slices.Contains(hosts, h.Name) && h.State == "ready" && tried(h, len(hosts)) {
			ready++
		}
	}
	return ready == len(hosts)
}

// tried says whether it is settled how pods are joined, and the network between a host and all others was tried.
func tried(h *drydockv1.Host, hosts int) bool {
	if len(h.Links) < hosts-1 || hosts > 1 && h.GetInfo().GetNetwork() == "unproven" {
		return false
	}
	return !slices.ContainsFunc(h.Links, func(l *drydockv1.HostLink) bool { return l.State != "proven" && l.State != "failed" })
}

func notReady(res *connect.Response[drydockv1.ListHostsResponse], hosts []string) string {
	if res == nil {
		return "the controller does not answer"
	}
	states := ""
	for _, h := range res.Msg.Hosts {
		states += h.Name + " " + h.State + " " + h.Message + " (network " + h.GetInfo().GetNetwork() + " " + h.GetInfo().GetNetworkReason() + "); "
	}
	return fmt.Sprintf("%sexpected %v", states, hosts)
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lookAgain):
		return nil
	}
}
