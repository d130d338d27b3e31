package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

const (
	wantRunning = drydockv1.DesiredState_DESIRED_STATE_RUNNING
	wantStopped = drydockv1.DesiredState_DESIRED_STATE_STOPPED
	wantRemoved = drydockv1.DesiredState_DESIRED_STATE_REMOVED
)

type podItem = store.Item[*drydockv1.PodRecord]

// pod reads a pod's record, or says that there is none.
func (c *Controller) pod(ctx context.Context, name string) (podItem, error) {
	item, err := store.Get[drydockv1.PodRecord](ctx, c.store, podKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return podItem{}, noPod(name)
	}
	return item, err
}

func errPodExists(name string) error {
	return connect.NewError(connect.CodeAlreadyExists,
		fmt.Errorf("there is a pod %q already: choose another name, or remove it: `drydock pod rm %s`", name, name))
}

// runPod makes a pod and starts it. Where that fails nothing is left of it; where this controller dies in between, the next
// leader carries on.
func (c *Controller) runPod(ctx context.Context, r *reign, asked *drydockv1.PodSpec, on string, progress func(string)) (*drydockv1.Pod, error) {
	spec := proto.CloneOf(asked)
	complete(spec)
	if err := validSpec(spec); err != nil {
		return nil, err
	}
	if _, err := c.pod(ctx, spec.GetName()); err == nil {
		return nil, errPodExists(spec.GetName())
	}
	if err := c.resolve(ctx, spec); err != nil {
		return nil, err
	}
	h, err := c.place(ctx, spec, on)
	if err != nil {
		return nil, err
	}
	spec.Portable = spec.Portable || c.mixed(h)
	if err := c.claimAs(ctx, r, spec, h); err != nil {
		return nil, err
	}
	c.services.Announce(ctx, spec)
	progress(fmt.Sprintf("placed on %s with address %s", h.name(), spec.GetAddresses()[0]))
	if err := c.create(ctx, r, spec.GetName()); err != nil {
		return nil, fmt.Errorf("run pod %s on %s: %w", spec.GetName(), h.name(), err)
	}
	return c.getPod(ctx, spec.GetName())
}

// claimAs puts a pod on record that its services admit.
func (c *Controller) claimAs(ctx context.Context, r *reign, spec *drydockv1.PodSpec, h host) error {
	defer forUpgrades{c}.Lock("services")()
	if err := c.services.Admit(ctx, spec); err != nil {
		return err
	}
	if err := c.services.Equip(ctx, spec); err != nil {
		return err
	}
	record := &drydockv1.PodRecord{Spec: spec, Desired: wantRunning, Host: h.name(), Created: timestamppb.New(c.now()), StopGrace: spec.GetStopGrace()}
	return c.claim(ctx, r, record)
}

func (c *Controller) create(ctx context.Context, r *reign, name string) error {
	if err := c.fault("claimed"); err != nil {
		return err
	}
	err := c.converge(ctx, r, name)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// The host cannot run it. Should undoing fail as well, then the leader goes on with it.
	_, undo := c.want(ctx, r, name, func(record *drydockv1.PodRecord) error {
		record.Desired = wantRemoved
		return nil
	})
	if undo == nil {
		undo = c.converge(ctx, r, name)
	}
	if undo != nil {
		c.log.Warn("pod not undone yet", "pod", name, "error", undo)
	}
	return err
}

// want changes what a pod's record asks for.
func (c *Controller) want(ctx context.Context, r *reign, name string, change func(*drydockv1.PodRecord) error) (podItem, error) {
	for {
		item, err := c.pod(ctx, name)
		if err != nil {
			return podItem{}, err
		}
		before := proto.CloneOf(item.Value)
		if err := change(item.Value); err != nil || proto.Equal(before, item.Value) {
			return item, err
		}
		item.Revision, err = c.store.Txn().If(r.term.Holds(), store.Unchanged(item.Key, item.Revision)).Put(item.Key, item.Value).Commit(ctx)
		if !errors.Is(err, store.ErrConflict) {
			return item, err
		}
		if err := c.stillLeads(ctx, r); err != nil {
			return podItem{}, fmt.Errorf("change pod %s: %w", name, err)
		}
	}
}

// startPod starts a pod that was stopped, that ended, or that was lost.
func (c *Controller) startPod(ctx context.Context, r *reign, name string) (*drydockv1.Pod, error) {
	what := "start pod " + name
	_, err := c.want(ctx, r, name, func(record *drydockv1.PodRecord) error {
		if record.GetDesired() == wantRemoved {
			return refuse(what, because("it is being removed", "wait until it is gone, and run it anew"))
		}
		if why := upgradingReason(record); why != nil {
			return refuse(what, why)
		}
		record.Desired = wantRunning
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.troubles.forgive(name)
	if err := c.restart(ctx, r, name); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := c.converge(ctx, r, name); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return c.getPod(ctx, name)
}

// stopPod stops a pod. It keeps its address, and what it wrote.
func (c *Controller) stopPod(ctx context.Context, r *reign, name string, grace *durationpb.Duration) (*drydockv1.Pod, error) {
	what := "stop pod " + name
	if grace != nil && (!grace.IsValid() || grace.AsDuration() < 0) {
		return nil, invalid("%s: the grace must not be negative", what)
	}
	if err := c.mayStop(ctx, what, name); err != nil {
		return nil, err
	}
	_, err := c.want(ctx, r, name, func(record *drydockv1.PodRecord) error {
		switch {
		case record.GetDesired() == wantRemoved:
			return refuse(what, because("it is being removed", "wait until it is gone"))
		case record.GetMigration() != "":
			return refuse(what, movingReason(record))
		case record.GetUpgrade() != nil:
			return refuse(what, upgradingReason(record))
		}
		record.Desired, record.StopGrace = wantStopped, record.GetSpec().GetStopGrace()
		if grace != nil {
			record.StopGrace = grace
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.converge(ctx, r, name); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return c.getPod(ctx, name)
}

// mayStop refuses where the pod runs on a host that does not answer.
func (c *Controller) mayStop(ctx context.Context, what, name string) error {
	record, err := c.ownerOf(ctx, name)
	if err != nil || !record.Owned() {
		return err
	}
	_, err = c.answeringAgent(ctx, what, record.Owner.Host)
	return err
}

func movingReason(record *drydockv1.PodRecord) *drydockv1.Refusal {
	return because("it is moving (migration "+record.GetMigration()+")", "wait for the migration to end")
}

// removePod removes a pod and all that it wrote.
func (c *Controller) removePod(ctx context.Context, r *reign, name string, force bool) error {
	what := "remove pod " + name
	record, err := c.ownerOf(ctx, name)
	if err != nil {
		return err
	}
	if err := c.mayRemove(ctx, what, record); err != nil {
		return err
	}
	_, err = c.want(ctx, r, name, func(pod *drydockv1.PodRecord) error {
		switch {
		case pod.GetMigration() != "":
			return refuse(what, movingReason(pod))
		case pod.GetUpgrade() != nil:
			return refuse(what, upgradingReason(pod))
		case record.Owned() && pod.GetDesired() == wantRunning && !force:
			return refuse(what, because("it runs on "+record.Owner.Host, "stop it first: `drydock pod stop "+name+"`, or use --force"))
		}
		pod.Desired = wantRemoved
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.converge(ctx, r, name); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// mayRemove refuses where a host that does not answer may still hold something of the pod.
func (c *Controller) mayRemove(ctx context.Context, what string, record owner.Record) error {
	if hostOf(record) == "" {
		return nil
	}
	h, err := c.host(ctx, record.Owner.Host)
	gone := connect.CodeOf(err) == connect.CodeNotFound || err == nil && h.state == hostDead
	if gone && !record.Owned() {
		return nil
	}
	_, err = c.answeringAgent(ctx, what, record.Owner.Host)
	return err
}

func grace(record *drydockv1.PodRecord) time.Duration { return record.GetStopGrace().AsDuration() }
