package orchestrator

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// maxSteps is more than a pod ever needs to become what is wanted of it.
const maxSteps = 16

// converge takes one pod, step by step, to what its record wants, or as far as its host allows. Each step may be repeated, by
// this controller or the next.
func (c *Controller) converge(ctx context.Context, r *reign, name string) error {
	defer c.locks.lock(name)()
	for range maxSteps {
		p, err := c.passOf(ctx, r, name)
		if connect.CodeOf(err) == connect.CodeNotFound {
			c.troubles.clear(name)
			return nil
		}
		more := false
		if err == nil {
			more, err = p.step(ctx)
		}
		if err != nil {
			c.troubles.note(name, err)
			return err
		}
		if !more {
			c.troubles.clear(name)
			return nil
		}
	}
	return fmt.Errorf("pod %s is not as wanted after %d steps", name, maxSteps)
}

// pass is one look at a pod, and the step that follows from it.
type pass struct {
	*Controller
	r      *reign
	item   podItem
	record *drydockv1.PodRecord
	own    owner.Record
	name   string
}

func (c *Controller) passOf(ctx context.Context, r *reign, name string) (pass, error) {
	item, err := c.pod(ctx, name)
	if err != nil {
		return pass{}, err
	}
	own, err := c.ownerOf(ctx, name)
	return pass{Controller: c, r: r, item: item, record: item.Value, own: own, name: name}, err
}

// step does the next thing, and says whether to look again.
func (p pass) step(ctx context.Context) (more bool, err error) {
	if more, err := p.supervise(ctx); more || err != nil {
		return more, err
	}
	switch p.record.GetDesired() {
	case wantRemoved:
		return p.towardsRemoved(ctx)
	case wantStopped:
		return p.towardsStopped(ctx)
	}
	return p.towardsRunning(ctx)
}

func (p pass) towardsRunning(ctx context.Context) (bool, error) {
	switch p.own.State {
	case "", owner.Removed:
		return p.did(p.r.owners.Create(ctx, p.name))
	case owner.Created:
		return p.startOn(ctx, p.record.GetHost())
	case owner.Stopping:
		return p.stopTasks(ctx)
	case owner.Stopped:
		return p.startOn(ctx, p.own.Owner.Host)
	case owner.Lost:
		return p.applyPolicy(ctx)
	case owner.Running:
		if !p.own.Settled && p.own.Incarnation == p.own.Epoch {
			return p.createTasks(ctx)
		}
		return false, p.tendShim(ctx)
	}
	return false, nil
}

func (p pass) towardsStopped(ctx context.Context) (bool, error) {
	switch p.own.State {
	case owner.Stopping:
		return p.stopTasks(ctx)
	case owner.Running, owner.Created, owner.Lost:
		return p.did(p.r.owners.Stop(ctx, p.name, p.own.Epoch))
	}
	return false, nil
}

func (p pass) towardsRemoved(ctx context.Context) (bool, error) {
	switch p.own.State {
	case "":
		return false, p.forget(ctx)
	case owner.Removed:
		// The name and the addresses are free for another pod only when nothing of this one is left.
		if err := p.removeRemains(ctx); err != nil {
			return false, err
		}
		return false, p.forget(ctx)
	case owner.Running:
		return p.did(p.r.owners.Stop(ctx, p.name, p.own.Epoch))
	case owner.Stopping:
		return p.stopTasks(ctx)
	case owner.Moving:
		return false, nil
	}
	return p.did(p.r.owners.Remove(ctx, p.name, p.own.Epoch))
}

// did goes on after a change of the owner; a change that somebody else was faster with is looked at anew.
func (p pass) did(record owner.Record, err error) (bool, error) {
	if err == nil {
		err = p.fault("owner " + string(record.State))
	}
	return err == nil, err
}

// startOn makes a host the owner; it must answer.
func (p pass) startOn(ctx context.Context, name string) (bool, error) {
	h, err := p.host(ctx, name)
	if err != nil {
		return false, err
	}
	if h.state == hostDead {
		return p.startElsewhere(ctx, name)
	}
	if !h.answers() {
		return false, refuse("start pod "+p.name, h.why())
	}
	return p.did(p.r.owners.Start(ctx, p.name, p.own.Epoch, owner.Place{Host: name, BootID: h.record.GetBootId()}))
}

func (p pass) startElsewhere(ctx context.Context, but string) (bool, error) {
	hosts, err := p.hosts(ctx)
	if err != nil {
		return false, err
	}
	kept, err := p.keptApart(ctx, p.record.GetSpec())
	if err != nil {
		return false, err
	}
	what := "start pod " + p.name + " elsewhere"
	reasons := leaveOut(hosts, kept)
	h, err := choosePlace(what, hosts, needOf(p.record.GetSpec()), []string{but})
	if err != nil {
		return false, noPlace(what, append(reasons, refusal.Of(err)...))
	}
	return p.did(p.r.owners.Start(ctx, p.name, p.own.Epoch, owner.Place{Host: h.name(), BootID: h.record.GetBootId()}))
}

// createTasks has the owner's agent make the pod and run it, and takes that as its report that it runs.
func (p pass) createTasks(ctx context.Context) (bool, error) {
	agent, err := p.answeringAgent(ctx, "start pod "+p.name, p.own.Owner.Host)
	if err != nil {
		return false, err
	}
	images, err := p.imageHosts(ctx, p.record.GetSpec())
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.Timings.CreateTimeout)
	defer cancel()
	request := &drydockv1.CreatePodRequest{Spec: p.record.GetSpec(), Epoch: p.own.Epoch, ImageHosts: images}
	if _, err := agent.CreatePod(ctx, connect.NewRequest(request)); err != nil {
		return false, fmt.Errorf("host %s: %w", p.own.Owner.Host, err)
	}
	if err := p.fault("tasks created"); err != nil {
		return false, err
	}
	return p.reported(p.r.owners.Settle(ctx, p.name, p.own.Epoch, p.own.Owner))
}

// stopTasks has the owner's agent kill the pod, and takes that as its report that no task is left.
func (p pass) stopTasks(ctx context.Context) (bool, error) {
	agent, err := p.answeringAgent(ctx, "stop pod "+p.name, p.own.Owner.Host)
	if err != nil {
		return false, err
	}
	wait := grace(p.record)
	ctx, cancel := context.WithTimeout(ctx, p.config.Timings.CreateTimeout+wait)
	defer cancel()
	request := &drydockv1.StopAgentPodRequest{Name: p.name, Grace: durationpb.New(wait)}
	_, err = agent.StopAgentPod(ctx, connect.NewRequest(request))
	if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
		return false, fmt.Errorf("host %s: %w", p.own.Owner.Host, err)
	}
	if err := p.fault("tasks stopped"); err != nil {
		return false, err
	}
	return p.reported(p.r.owners.ReportStopped(ctx, p.name, p.own.Epoch, p.own.Owner))
}

// reported goes on after a report; the agent may have made it first, and something else may have followed since.
func (p pass) reported(_ owner.Record, err error) (bool, error) {
	if err == nil || errors.Is(err, owner.ErrRefused) {
		return true, nil
	}
	return false, err
}

// removeRemains removes what a pod that nobody runs has left on its last host. A host that is dead removes it when it is back,
// on reading that the pod was removed.
func (p pass) removeRemains(ctx context.Context) error {
	name := p.own.Owner.Host
	if name == "" {
		return nil
	}
	h, err := p.host(ctx, name)
	if connect.CodeOf(err) == connect.CodeNotFound || err == nil && h.state == hostDead {
		return nil
	}
	if err != nil {
		return err
	}
	agent, err := p.answeringAgent(ctx, "remove pod "+p.name, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.Timings.CreateTimeout)
	defer cancel()
	_, err = agent.RemoveAgentPod(ctx, connect.NewRequest(&drydockv1.RemoveAgentPodRequest{Name: p.name}))
	if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
		return fmt.Errorf("host %s: %w", name, err)
	}
	return p.fault("remains removed")
}

// forget deletes the record, and sets its addresses free.
func (p pass) forget(ctx context.Context) error {
	txn := p.store.Txn().If(p.r.term.Holds(), store.Unchanged(p.item.Key, p.item.Revision)).Delete(p.item.Key)
	for _, address := range addressesOf(p.record.GetSpec()) {
		txn.Delete(addressKey(address))
	}
	_, err := txn.Commit(ctx)
	return err
}
