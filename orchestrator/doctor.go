package orchestrator

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
)

// doctor asks a host what it finds of itself, and whether it reaches every other one.
func (c *Controller) doctor(ctx context.Context, name string) ([]*drydockv1.DoctorCheck, error) {
	agent, err := c.answeringAgent(ctx, "examine host "+name, name)
	if err != nil {
		return nil, err
	}
	response, err := agent.Doctor(ctx, connect.NewRequest(&drydockv1.DoctorHostRequest{Name: name}))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	peers, err := c.peers(ctx, name)
	if err != nil {
		return nil, err
	}
	probe, err := c.probeAddress(ctx)
	if err != nil {
		return nil, err
	}
	checks := response.Msg.GetChecks()
	for _, peer := range peers {
		checks = append(checks, reachCheck(ctx, agent, peer, probe))
	}
	return checks, nil
}

func reachCheck(ctx context.Context, agent drydockv1connect.AgentServiceClient, peer *drydockv1.Peer, probe string) *drydockv1.DoctorCheck {
	check := &drydockv1.DoctorCheck{Name: "reaches " + peer.GetName()}
	response, err := agent.ReachPeer(ctx, connect.NewRequest(&drydockv1.ReachPeerRequest{Peer: peer, ProbeAddress: probe}))
	switch {
	case err != nil:
		check.Detail, check.Remedy = err.Error(), "see the agent's log"
	case !response.Msg.GetReachable():
		check.Detail, check.Remedy = response.Msg.GetReason(), "open "+peer.GetAddress()+" for this host"
	case !response.Msg.GetCarriesForeignMac():
		check.Detail, check.Remedy = response.Msg.GetReason(), "let the network carry MACs of pods, or use VXLAN"
	default:
		check.Ok, check.Detail = true, peer.GetAddress()+", and the network carries a pod's MAC there"
	}
	return check
}
