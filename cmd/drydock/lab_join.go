package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	v1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/lab"
)

// labOptions say how the hosts of a lab become its controller's: as any host does, by a token.
func labOptions() lab.Options {
	return lab.Options{Join: joinLab, WaitReady: awaitLab}
}

// lookAgain is how often a controller that is starting is asked.
const lookAgain = 50 * time.Millisecond

func joinLab(ctx context.Context, l *lab.Lab, host string) (string, error) {
	client, err := labClient(l)
	if err != nil {
		return "", err
	}
	for {
		res, err := client.CreateJoinToken(ctx, connect.NewRequest(&v1.CreateJoinTokenRequest{Host: host}))
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

// awaitLab waits until the controller has heard from every host and none of them has a problem.
func awaitLab(ctx context.Context, l *lab.Lab, hosts []string) error {
	client, err := labClient(l)
	if err != nil {
		return err
	}
	for {
		res, err := client.ListHosts(ctx, connect.NewRequest(&v1.ListHostsRequest{}))
		if err == nil && allReady(res.Msg.Hosts, hosts) {
			return nil
		}
		if perr := pause(ctx); perr != nil {
			return fmt.Errorf("the hosts are not all ready (%s): %w", notReady(res, hosts), perr)
		}
	}
}

func allReady(known []*v1.Host, hosts []string) bool {
	ready := 0
	for _, h := range known {
		if slices.Contains(hosts, h.Name) && h.State == "ready" {
			ready++
		}
	}
	return ready == len(hosts)
}

func notReady(res *connect.Response[v1.ListHostsResponse], hosts []string) string {
	if res == nil {
		return "the controller does not answer"
	}
	states := ""
	for _, h := range res.Msg.Hosts {
		states += h.Name + " " + h.State + " " + h.Message + "; "
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

func labClient(l *lab.Lab) (drydockv1connect.ControllerServiceClient, error) {
	t := &target{Context: l.Context()}
	return t.client()
}
