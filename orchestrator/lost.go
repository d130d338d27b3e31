package orchestrator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/migrate/owner"
)

// supervise looks whether the hosts that are answerable for the pod are gone, by migrate/owner's rules: only a new boot that
// was asked for after the record was read, or an operator's word about the very boot on record, counts.
func (p pass) supervise(ctx context.Context) (more bool, err error) {
	if !p.own.Owned() {
		return false, nil
	}
	step, proof := owner.Supervise(p.own, func(host string) owner.HostView { return p.look(ctx, host) })
	switch step.Action {
	case owner.TakeOver:
		p.log.Warn("pod's host is gone", "pod", p.name, "host", p.own.Owner.Host, "reason", step.Reason)
		did, err := p.did(p.r.owners.Takeover(ctx, p.name, p.own.Epoch, proof))
		return p.noted(ctx, did, err, "pod lost", "host "+p.own.Owner.Host+": "+step.Reason)
	case owner.AskAbort:
		p.log.Warn("migration is aborted", "pod", p.name, "migration", p.own.Migration, "reason", step.Reason)
		did, err := p.did(p.r.owners.Decide(ctx, p.name, p.own.Migration, owner.Abort))
		return p.noted(ctx, did, err, "migration abort", "migration "+p.own.Migration+": "+step.Reason)
	}
	return false, nil
}

// noted records what was done to the pod with nobody asking. What was not done is tried again, and is no event.
func (p pass) noted(ctx context.Context, did bool, err error, verb, reason string) (bool, error) {
	if did {
		p.Controller.record(ctx, verb, "pod "+p.name, reason, nil)
	}
	return did, err
}

// look asks a host for its boot, where its last report gives reason to.
func (p pass) look(ctx context.Context, name string) owner.HostView {
	h, err := p.host(ctx, name)
	if err != nil {
		return owner.HostView{}
	}
	var view owner.HostView
	known := p.own.Owner
	if name != known.Host {
		known = p.own.Destination
	}
	if h.isOver(known.BootID) {
		view.Dead = owner.ConfirmedDead
	}
	if h.record.GetBootId() == known.BootID || !h.answers() {
		return view
	}
	agent, err := p.agents.at(h.record)
	if err != nil {
		return view
	}
	view.BootID, err = p.bootOf(ctx, agent)
	if err != nil {
		p.log.Debug("host does not say its boot", "host", name, "error", err)
	}
	return view
}

func (c *Controller) bootOf(ctx context.Context, agent drydockv1connect.AgentServiceClient) (string, error) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	response, err := agent.GetHostInfo(ctx, connect.NewRequest(&drydockv1.GetHostInfoRequest{}))
	if err != nil {
		return "", err
	}
	return response.Msg.GetBootId(), nil
}

// applyPolicy starts a lost pod anew, where its operator allows that: in place where its host answers, since what it wrote is
// there, and elsewhere where the host is known to be dead.
func (p pass) applyPolicy(ctx context.Context) (bool, error) {
	h, err := p.host(ctx, p.own.Owner.Host)
	gone := connect.CodeOf(err) == connect.CodeNotFound || err == nil && h.state == hostDead
	if err != nil && !gone {
		return false, err
	}
	switch {
	case !p.restarts(h):
		return false, nil
	case gone && p.record.GetSpec().GetOnHostLost() == drydockv1.OnHostLost_ON_HOST_LOST_WAIT:
		return false, fmt.Errorf("host %s is gone, and the pod is to wait for it: start it elsewhere with `drydock pod start %s`", p.own.Owner.Host, p.name)
	case !gone && !h.answers():
		return false, fmt.Errorf("waits for host %s, which has what it wrote: %s", h.name(), h.message)
	case !p.troubles.due(p.name, p.now()):
		return false, nil
	case gone:
		did, err := p.startElsewhere(ctx, p.own.Owner.Host)
		return p.noted(ctx, did, err, "pod restart", "elsewhere, since host "+p.own.Owner.Host+" is gone")
	}
	did, err := p.startOn(ctx, h.name())
	return p.noted(ctx, did, err, "pod restart", "it ended on host "+h.name())
}

// restarts says whether the pod's policy starts it again after it ended.
func (p pass) restarts(h host) bool {
	switch p.record.GetSpec().GetRestartPolicy() {
	case drydockv1.RestartPolicy_RESTART_POLICY_NEVER:
		return false
	case drydockv1.RestartPolicy_RESTART_POLICY_ON_FAILURE:
		reported := reportedPod(h, p.name)
		if reported.GetPhase() != phaseEnded {
			return true
		}
		for _, container := range reported.GetContainers() {
			if container.GetExitCode() != 0 {
				return true
			}
		}
		return false
	}
	return true
}

// restart starts a lost pod because its operator says so, whatever its policy.
func (c *Controller) restart(ctx context.Context, r *reign, name string) error {
	defer c.locks.lock(name)()
	p, err := c.passOf(ctx, r, name)
	if err != nil || p.own.State != owner.Lost {
		return err
	}
	if _, err := c.host(ctx, p.own.Owner.Host); connect.CodeOf(err) == connect.CodeNotFound {
		_, err = p.startElsewhere(ctx, p.own.Owner.Host)
		return err
	}
	_, err = p.startOn(ctx, p.own.Owner.Host)
	return err
}

// Waiting times between restarts of a pod that ends again and again.
const (
	firstPause = time.Second
	longPause  = time.Minute
	// calm is how long a pod has to run for its earlier ends to be forgotten.
	calm = 10 * time.Minute
)

// troubles remembers, for as long as this controller runs, why pods are not as wanted and when they were restarted.
type troubles struct {
	mu    sync.Mutex
	known map[string]*trouble
}

type trouble struct {
	text     string
	restarts int
	last     time.Time
}

func (t *troubles) get(name string) *trouble {
	if t.known == nil {
		t.known = make(map[string]*trouble)
	}
	if t.known[name] == nil {
		t.known[name] = new(trouble)
	}
	return t.known[name]
}

// note remembers an error, and says whether it is a new one.
func (t *troubles) note(name string, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.get(name)
	fresh := known.text != err.Error()
	known.text = err.Error()
	return fresh
}

func (t *troubles) clear(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.get(name).text = ""
}

// forgive forgets all about a pod.
func (t *troubles) forgive(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, name)
}

func (t *troubles) of(name string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.get(name).text
}

// due says whether a pod may be restarted now, and if so counts it: the first time at once, then after longer and longer.
func (t *troubles) due(name string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.get(name)
	if now.Sub(known.last) > calm {
		known.restarts = 0
	}
	pause := time.Duration(0)
	if known.restarts > 0 {
		pause = min(firstPause<<min(known.restarts-1, 10), longPause)
	}
	if now.Sub(known.last) < pause {
		return false
	}
	known.restarts++
	known.last = now
	return true
}
