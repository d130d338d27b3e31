package upgrade

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

// What steps have done is taken back by these, and by letGo and release.

// startAgain runs what the pod's record says, and waits until it serves where calls wait for it.
func (x *execution) startAgain(ctx context.Context, p *drydockv1.UpgradePod) error {
	err := x.changePod(ctx, p.GetPod(), func(record *drydockv1.PodRecord) error {
		record.Desired = drydockv1.DesiredState_DESIRED_STATE_RUNNING
		return nil
	})
	if err == nil {
		err = x.Controller.Converge(ctx, p.GetPod())
	}
	if err != nil {
		return err
	}
	return x.servesAgain(ctx, p)
}

// servesAgain is an error as long as a pod that was put back, and for which a gateway keeps calls, may still become healthy.
func (x *execution) servesAgain(ctx context.Context, p *drydockv1.UpgradePod) error {
	stored, err := x.record(ctx)
	if err != nil {
		return err
	}
	h, err := headOf(stored)
	if err != nil || h.Gateway == nil || len(p.GetSteps()) == 0 {
		return err
	}
	last := p.GetSteps()[len(p.GetSteps())-1]
	since := x.Now().Sub(last.GetStarted().AsTime().Add(last.GetTook().AsDuration()))
	status, _, err := x.status(ctx, p)
	if gone(err) || since > healthWithin+delayOf(status.GetSpec()) {
		return nil
	}
	if err != nil {
		return err
	}
	ok, why, err := verdict(status, since >= x.Steady)
	if ok || err != nil { // what will not become healthy is not waited for
		return nil
	}
	return fmt.Errorf("pod %s, with its old version: %s", p.GetPod(), why)
}

// revert puts back what the pod's host had before the transform. A host that is gone has taken it along.
func (x *execution) revert(ctx context.Context, p *drydockv1.UpgradePod) error {
	at, err := x.host(ctx, p)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = at.agent.RevertPod(ctx, connect.NewRequest(&drydockv1.RevertPodRequest{Upgrade: x.attempt(p), Pod: p.GetPod(), Epoch: at.epoch}))
	return err
}

// stopNew ends the new version.
func (x *execution) stopNew(ctx context.Context, p *drydockv1.UpgradePod) error {
	return x.halt(ctx, p, func(record *drydockv1.PodRecord) { record.Spec = record.GetUpgrade().GetBefore() })
}
