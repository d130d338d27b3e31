package orchestrator

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/store"
)

func (c *Controller) listHosts(ctx context.Context) ([]*drydockv1.Host, error) {
	l, err := c.links(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := c.podsByHost(ctx)
	if err != nil {
		return nil, err
	}
	var wire []*drydockv1.Host
	for _, name := range sortedKeys(l.hosts) {
		h := l.hosts[name].wire(c.seen.since(), pods[name])
		l.describeNetwork(l.hosts[name], h)
		wire = append(wire, h)
	}
	return wire, nil
}

func (c *Controller) getHost(ctx context.Context, name string) (*drydockv1.Host, error) {
	hosts, err := c.listHosts(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		if h.GetName() == name {
			return h, nil
		}
	}
	return nil, noHost(name)
}

// podsByHost is which pods each host is answerable for, or was the last to run.
func (c *Controller) podsByHost(ctx context.Context) (map[string][]string, error) {
	owners, err := c.ownerRecords(ctx)
	if err != nil {
		return nil, err
	}
	pods := make(map[string][]string)
	for _, record := range owners {
		if host := hostOf(record); host != "" {
			pods[host] = append(pods[host], record.Pod)
		}
	}
	return pods, nil
}

// cordon keeps new pods off a host. A drain that is given is remembered until it is over.
func (c *Controller) cordon(ctx context.Context, name, by string, drain *drydockv1.Drain) error {
	_, err := store.Update(ctx, c.store, hostKey(name), func(item store.Item[*drydockv1.HostRecord]) error {
		if item.Revision == 0 {
			return noHost(name)
		}
		if item.Value.GetCordon() == nil {
			item.Value.Cordon = &drydockv1.Cordon{Owner: by, Since: timestamppb.New(c.now())}
		}
		item.Value.Cordon.Drain = drain
		return nil
	})
	return err
}

// resumeHost lets pods come to a host again. A drain that runs ends with it.
func (c *Controller) resumeHost(ctx context.Context, name string) (*drydockv1.Host, error) {
	if err := c.notOfARollout(ctx, "resume host "+name, name); err != nil {
		return nil, err
	}
	_, err := store.Update(ctx, c.store, hostKey(name), func(item store.Item[*drydockv1.HostRecord]) error {
		switch {
		case item.Revision == 0:
			return noHost(name)
		case item.Value.GetCordon() == nil:
			return store.ErrUnchanged
		}
		item.Value.Cordon = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.getHost(ctx, name)
}

// confirmHostDead notes that an operator says that a boot of a host is over. What it ran is then lost, and started
// elsewhere where its pods allow that.
func (c *Controller) confirmHostDead(ctx context.Context, name, boot string) ([]string, error) {
	what := "confirm that host " + name + " is dead"
	h, err := c.host(ctx, name)
	if err != nil {
		return nil, err
	}
	switch {
	case boot == "":
		return nil, invalid("%s: name the boot id that is dead: `drydock host inspect %s` shows it", what, name)
	case h.record.GetBootId() != boot:
		return nil, refuse(what, because(fmt.Sprintf("its boot id is %s, not %s", h.record.GetBootId(), boot),
			"look at `drydock host inspect "+name+"` again"))
	case h.answers():
		return nil, refuse(what, because("it is "+h.state+" and reports", "drain it instead: `drydock host drain "+name+"`"))
	}
	_, err = store.Update(ctx, c.store, hostKey(name), func(item store.Item[*drydockv1.HostRecord]) error {
		if item.Value.GetBootId() != boot {
			return refuse(what, because("it has just reported from another boot", "look at `drydock host ls` again"))
		}
		item.Value.DeadBootId = boot
		return nil
	})
	if err != nil {
		return nil, err
	}
	pods, err := c.podsByHost(ctx)
	return pods[name], err
}

// removeHost forgets a host that holds no pod. Its certificate is of no use from then on.
func (c *Controller) removeHost(ctx context.Context, name string) error {
	h, err := c.host(ctx, name)
	if err != nil {
		return err
	}
	pods, err := c.podsByHost(ctx)
	if err != nil {
		return err
	}
	var reasons []*drydockv1.Refusal
	for _, pod := range pods[name] {
		reasons = append(reasons, because("it holds pod "+pod, "run `drydock host drain "+name+"`, or remove the pod"))
	}
	if err := refuse("remove host "+name, reasons...); err != nil {
		return err
	}
	txn := c.store.Txn().If(store.Unchanged(hostKey(name), h.revision)).Delete(hostKey(name)).Delete(reportKey(name)).Delete(statusKey(name))
	if err := c.forgetLinks(ctx, txn, name); err != nil {
		return err
	}
	_, err = txn.Commit(ctx)
	if r, _ := c.reigning(); err == nil && r != nil {
		r.fleet.Load().forget(name)
	}
	return err
}
