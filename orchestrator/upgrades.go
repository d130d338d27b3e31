package orchestrator

import (
	"context"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/orchestrator/upgrade"
)

// steadyFor is how long a new version without a probe must have run to count as healthy.
const steadyFor = 5 * time.Second

// newServices makes what keeps services and their upgrades.
func (c *Controller) newServices() *upgrade.Services {
	return upgrade.New(upgrade.Config{
		Store: c.store, Controller: forUpgrades{c}, Log: c.log, Now: func() time.Time { return c.now() }, Prefix: keyRoot,
		LookEvery: min(c.config.Timings.ReconcileInterval, time.Second), Steady: min(steadyFor, 10*c.config.Timings.ReconcileInterval),
		Fault: func(point string) error { return c.fault(point) },
	})
}

// forUpgrades is the controller as upgrades see it.
type forUpgrades struct{ c *Controller }

var _ upgrade.Controller = forUpgrades{}

func (f forUpgrades) Lead(ctx context.Context) (context.Context, error) {
	r, err := f.c.leading(ctx)
	if err != nil {
		return nil, err
	}
	return r.ctx, nil
}

func (f forUpgrades) Lock(name string) func() { return f.c.locks.lock("lock " + name) }

func (f forUpgrades) ListPods(ctx context.Context) ([]*drydockv1.Pod, error) {
	return f.c.listPods(ctx, "")
}

func (f forUpgrades) GetPod(ctx context.Context, name string) (*drydockv1.Pod, error) {
	return f.c.getPod(ctx, name)
}

func (f forUpgrades) ChangePod(ctx context.Context, name string, change func(*drydockv1.PodRecord) error) error {
	r, err := f.c.leading(ctx)
	if err != nil {
		return err
	}
	_, err = f.c.want(ctx, r, name, change)
	return err
}

func (f forUpgrades) Converge(ctx context.Context, name string) error {
	r, err := f.c.leading(ctx)
	if err != nil {
		return err
	}
	return f.c.converge(ctx, r, name)
}

func (f forUpgrades) Resolve(ctx context.Context, spec *drydockv1.PodSpec) error {
	return f.c.resolve(ctx, spec)
}

func (f forUpgrades) ImageHosts(ctx context.Context, spec *drydockv1.PodSpec) ([]*drydockv1.Peer, error) {
	return f.c.imageHosts(ctx, spec)
}

func (f forUpgrades) Agent(ctx context.Context, what, name string) (drydockv1connect.AgentServiceClient, bool, error) {
	h, err := f.c.host(ctx, name)
	if connect.CodeOf(err) == connect.CodeNotFound || err == nil && h.state == hostDead {
		return nil, true, refuse(what, because("host "+name+" is dead or forgotten", "see `drydock host ls`"))
	}
	if err != nil {
		return nil, false, err
	}
	agent, err := f.c.answeringAgent(ctx, what, name)
	return agent, false, err
}

func (f forUpgrades) RunPod(ctx context.Context, spec *drydockv1.PodSpec) error {
	r, err := f.c.leading(ctx)
	if err == nil {
		_, err = f.c.runPod(ctx, r, spec, "", func(string) {})
	}
	return err
}

func (f forUpgrades) RemovePod(ctx context.Context, name string) error {
	r, err := f.c.leading(ctx)
	if err == nil {
		err = f.c.removePod(ctx, r, name, true)
	}
	return err
}

func (f forUpgrades) SetShim(ctx context.Context, pod string, was uint64, shim *drydockv1.ShimSpec) error {
	r, err := f.c.leading(ctx)
	if err == nil {
		_, err = f.c.setPodShim(ctx, r, pod, &was, shim, false)
	}
	return err
}

func (f forUpgrades) Record(ctx context.Context, verb, object, reason string, err error) {
	f.c.record(ctx, verb, object, reason, err)
}

func (f forUpgrades) Requester(ctx context.Context) string { return requester(ctx) }

// upgradingReason is why nobody else may stop, move or remove a pod, or nil.
func upgradingReason(record *drydockv1.PodRecord) *drydockv1.Refusal {
	id := record.GetUpgrade().GetId()
	if id == "" {
		return nil
	}
	return because("upgrade "+id+" has it at the moment", "wait for that: `drydock upgrade watch "+id+"`, or end it: `drydock upgrade abort "+id+"`")
}
