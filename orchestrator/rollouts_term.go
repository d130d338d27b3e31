package orchestrator

import (
	"context"
	"maps"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/migrate/owner"
	"drydock/orchestrator/audit"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/rollout"
	"drydock/orchestrator/store"
)

// rolloutTerm is the controller in one of its terms, as rollouts see it.
type rolloutTerm struct {
	*audit.Trail
	c *Controller
	r *reign
}

var _ rollout.Term = rolloutTerm{}

func (c *Controller) termOf(r *reign) rolloutTerm { return rolloutTerm{c.trail, c, r} }

func (t rolloutTerm) Context() context.Context { return t.r.ctx }
func (t rolloutTerm) Go(work func()) bool      { return t.r.spawn(work) }

func forRollout(h host) rollout.Host {
	return rollout.Host{
		Record: h.record, Labels: h.report.GetInfo().GetLabels(), Summary: h.report.GetSummary(),
		Answers: h.answers(), Dead: h.state == hostDead, Cordoned: h.state == hostCordoned,
	}
}

func (t rolloutTerm) Host(ctx context.Context, name string) (rollout.Host, error) {
	h, err := t.c.host(ctx, name)
	if err != nil {
		return rollout.Host{}, err
	}
	return forRollout(h), nil
}

func (t rolloutTerm) Hosts(ctx context.Context) (map[string]rollout.Host, error) {
	known, err := t.c.hosts(ctx)
	if err != nil {
		return nil, err
	}
	hosts := make(map[string]rollout.Host, len(known))
	for name, h := range known {
		hosts[name] = forRollout(h)
	}
	return hosts, nil
}

func (t rolloutTerm) ChangeHost(ctx context.Context, name string, change func(*drydockv1.HostRecord) error) error {
	_, err := store.Update(ctx, t.c.store, hostKey(name), func(item store.Item[*drydockv1.HostRecord]) error {
		if item.Revision == 0 {
			return noHost(name)
		}
		before := proto.CloneOf(item.Value)
		if err := change(item.Value); err != nil {
			return err
		}
		if proto.Equal(before, item.Value) {
			return store.ErrUnchanged
		}
		return nil
	})
	return err
}

func (t rolloutTerm) Patcher(h rollout.Host) (drydockv1connect.PatchServiceClient, error) {
	return t.c.agents.patcher(h.Record)
}

func (t rolloutTerm) ListHosts(ctx context.Context) ([]*drydockv1.Host, error) {
	return t.c.listHosts(ctx)
}

func (t rolloutTerm) ListPods(ctx context.Context) ([]*drydockv1.Pod, error) {
	return t.c.listPods(ctx, "")
}

func (t rolloutTerm) Pod(ctx context.Context, name string) (*drydockv1.PodRecord, error) {
	item, err := t.c.pod(ctx, name)
	return item.Value, err
}

func (t rolloutTerm) OwnerOf(ctx context.Context, name string) (owner.Record, error) {
	return t.c.ownerOf(ctx, name)
}

func (t rolloutTerm) PodsOn(ctx context.Context, host string) ([]string, error) {
	return t.c.running(ctx, host)
}

func (t rolloutTerm) StartPod(ctx context.Context, name string) error {
	_, err := t.c.startPod(ctx, t.r, name)
	return err
}

func (t rolloutTerm) StopPod(ctx context.Context, name string, grace *durationpb.Duration) error {
	_, err := t.c.stopPod(ctx, t.r, name, grace)
	return err
}

func (t rolloutTerm) StartPodOn(ctx context.Context, name string, place owner.Place) error {
	if err := t.hand(ctx, name, place); err != nil {
		return err
	}
	return t.c.converge(ctx, t.r, name)
}

// hand makes another host the owner of a stopped pod, and wants it to run, before anybody else looks at it.
func (t rolloutTerm) hand(ctx context.Context, pod string, to owner.Place) error {
	defer t.c.locks.lock(pod)()
	own, err := t.c.ownerOf(ctx, pod)
	if err != nil {
		return err
	}
	if own.State == owner.Stopped {
		if _, err := t.r.owners.Start(ctx, pod, own.Epoch, to); err != nil {
			return err
		}
	}
	_, err = t.c.want(ctx, t.r, pod, func(record *drydockv1.PodRecord) error {
		record.Desired = wantRunning
		return nil
	})
	return err
}

func (t rolloutTerm) Move(ctx context.Context, m *drydockv1.MigratePodRequest, by, why string, tell rollout.Tell) (*drydockv1.MigrationReport, error) {
	event, err := t.Begin(ctx, "migrate", "pod "+m.GetPod(), why)
	if err != nil {
		return nil, err
	}
	report, err := t.c.migrate(ctx, t.r, m, by, tell)
	if ctx.Err() == nil {
		outcome, detail := audit.OutcomeOf(err)
		if err == nil && report != nil {
			outcome, detail = audit.OutcomeOfMove(report)
		}
		t.Finish(ctx, event, outcome, detail)
	}
	return report, err
}

func (t rolloutTerm) Follow(ctx context.Context, migration string, tell rollout.Tell) error {
	item, err := store.Get[drydockv1.MigrationRecord](ctx, t.c.store, migrationKey(migration))
	if err != nil {
		return err
	}
	_, err = t.c.follow(t.r, item.Value.GetSpec()).watch(ctx, t.r, tell)
	return err
}

func (t rolloutTerm) Plan(ctx context.Context, p *pool.Pool) (*drydockv1.PoolPlan, error) {
	return t.c.planPool(ctx, t.r, p, true)
}

func (t rolloutTerm) Survey(ctx context.Context, p *pool.Pool, known rollout.Known) (rollout.Survey, error) {
	s := t.c.newSurvey(t.r, p, known.By)
	maps.Copy(s.patches, known.Patches)
	maps.Copy(s.away, known.Away)
	return s, s.look(ctx)
}
