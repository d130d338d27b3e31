package orchestrator

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

// doctor asks a host what it finds of itself, and has it prove to every other one what moving pods needs.
func (c *Controller) doctor(ctx context.Context, name string) ([]*drydockv1.DoctorCheck, error) {
	agent, err := c.answeringAgent(ctx, "examine host "+name, name)
	if err != nil {
		return nil, err
	}
	response, err := agent.Doctor(ctx, connect.NewRequest(&drydockv1.DoctorHostRequest{Name: name}))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	checks := response.Msg.GetChecks()
	l, err := c.links(ctx)
	if err != nil {
		return nil, err
	}
	for _, other := range sortedKeys(l.hosts) {
		if other == name || l.hosts[other].state == hostDead {
			continue
		}
		check, err := c.reachCheck(ctx, l, name, other)
		if err != nil {
			return nil, err
		}
		checks = append(checks, check)
	}
	return checks, nil
}

func (c *Controller) reachCheck(ctx context.Context, l links, name, other string) (*drydockv1.DoctorCheck, error) {
	h, peer := l.hosts[name], l.hosts[other]
	if peer.answers() && hangsOn(h) == l.kind() && hangsOn(peer) == l.kind() {
		first, second := ends(h, peer)
		if err := c.prove(ctx, l, first, second); err != nil {
			return nil, err
		}
		again, err := c.links(ctx)
		if err != nil {
			return nil, err
		}
		l = again
	}
	check := &drydockv1.DoctorCheck{Name: "reaches " + other}
	switch found := l.between(h, peer); {
	case !peer.answers():
		check.Detail, check.Remedy = "it is "+peer.state+": "+peer.message, "bring its agent back"
	case found.state != linkProven:
		check.Detail, check.Remedy = found.why.GetReason(), found.why.GetRemedy()
	default:
		check.Ok = true
		check.Detail = fmt.Sprintf("%s, and the network (%s) carries a pod's MAC both ways", peer.record.GetAddress(), l.kind())
	}
	return check, nil
}
