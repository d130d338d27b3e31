package rig

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/lab"
)

// The states of a controller that has a vote.
const (
	Leads   = "leads"
	Standby = "ready"
)

// Cluster asks the first of a lab's controllers that answers about all of them.
func Cluster(l *lab.Lab) drydockv1connect.ClusterServiceClient {
	client, base := transport(l)
	return drydockv1connect.NewClusterServiceClient(client, base)
}

// ControllerStates are those of all controllers, by name, as the one that leads says.
func ControllerStates(ctx context.Context, cluster drydockv1connect.ClusterServiceClient) (map[string]string, error) {
	res, err := cluster.ListControllers(ctx, connect.NewRequest(&drydockv1.ListControllersRequest{}))
	if err != nil {
		return nil, err
	}
	states := make(map[string]string)
	for _, c := range res.Msg.GetControllers() {
		states[c.GetName()] = c.GetState()
	}
	return states, nil
}

// controllersReady waits until each of several controllers has a vote. One controller alone leads or does not answer.
func controllersReady(ctx context.Context, l *lab.Lab) error {
	all := l.Controllers()
	if len(all) == 1 {
		return nil
	}
	cluster := Cluster(l)
	for {
		states, err := ControllerStates(ctx, cluster)
		ready := 0
		for _, name := range all {
			if states[name] == Leads || states[name] == Standby {
				ready++
			}
		}
		if ready == len(all) {
			return nil
		}
		if perr := pause(ctx); perr != nil {
			return fmt.Errorf("the controllers are not all ready (%v %v): %w", states, err, perr)
		}
	}
}
