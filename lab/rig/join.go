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

// Join gets a host of a lab, or a controller behind the first, its token from the lab's controllers, which may be starting.
func Join(ctx context.Context, l *lab.Lab, node string) (string, error) {
	ask := tokenOfHost
	if slices.Contains(l.Controllers(), node) {
		ask = tokenOfController
	}
	for {
		token, err := ask(ctx, l, node)
		if err == nil {
			return token, nil
		}
		if connect.CodeOf(err) != connect.CodeUnavailable {
			return "", fmt.Errorf("token for %s: %w", node, err)
		}
		if err := pause(ctx); err != nil {
			return "", fmt.Errorf("the lab's controllers do not answer: %w; see %s", err, l.LogDir(lab.ControllerNode))
		}
	}
}

func tokenOfHost(ctx context.Context, l *lab.Lab, host string) (string, error) {
	res, err := Client(l).CreateJoinToken(ctx, connect.NewRequest(&drydockv1.CreateJoinTokenRequest{Host: host}))
	if err != nil {
		return "", err
	}
	return res.Msg.Token, nil
}

// tokenOfController is what `drydock controller join` prints.
func tokenOfController(ctx context.Context, l *lab.Lab, node string) (string, error) {
	res, err := Cluster(l).CreateControllerToken(ctx, connect.NewRequest(&drydockv1.CreateControllerTokenRequest{Name: node}))
	if err != nil {
		return "", err
	}
	return res.Msg.Token, nil
}

// Ready waits until every controller can take over, has heard from every host, none of them has a problem, and every two have tried
// the network between them: pods can move wherever it lets them.
func Ready(ctx context.Context, l *lab.Lab, hosts []string) error {
	if err := controllersReady(ctx, l); err != nil {
		return err
	}
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
