package orchestrator

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

// keepMigrations is how many reports are kept.
const keepMigrations = 1000

// newMigrationID makes an id that is never used again; ids sort by the time that they were made.
func newMigrationID(now time.Time) string {
	return "m" + strconv.FormatInt(now.UnixMilli(), 36) + "-" + strings.ToLower(rand.Text()[:8])
}

// plan checks everything that can be known here of a migration, and says at once all that is in the way. The cordon of whoever
// asks is not.
func (c *Controller) plan(ctx context.Context, m *drydockv1.MigratePodRequest, by string) (*drydockv1.MigrationSpec, podItem, error) {
	item, err := c.pod(ctx, m.GetPod())
	to, hostErr := c.host(ctx, m.GetTo())
	if connect.CodeOf(err) == connect.CodeNotFound && connect.CodeOf(hostErr) == connect.CodeNotFound {
		err = connect.NewError(connect.CodeNotFound, fmt.Errorf("there is neither a pod %q nor a host %q: see `drydock pod ls` and `drydock host ls`", m.GetPod(), m.GetTo()))
	}
	if err := cmp.Or(err, hostErr); err != nil {
		return nil, podItem{}, err
	}
	own, err := c.ownerOf(ctx, m.GetPod())
	if err != nil {
		return nil, podItem{}, err
	}
	reasons, err := c.inTheWay(ctx, item.Value, own, to, by)
	if err != nil {
		return nil, podItem{}, err
	}
	if err := refuse(fmt.Sprintf("move pod %s to %s", m.GetPod(), m.GetTo()), reasons...); err != nil {
		return nil, podItem{}, err
	}
	mode := m.GetMode()
	if mode == drydockv1.MigrationMode_MIGRATION_MODE_UNSPECIFIED {
		mode = drydockv1.MigrationMode_MIGRATION_MODE_AUTO
	}
	return &drydockv1.MigrationSpec{
		Id: newMigrationID(c.now()), Pod: m.GetPod(), From: own.Owner.Host, To: m.GetTo(), ToAddress: to.record.GetAddress(), ToBootId: to.record.GetBootId(),
		Mode: mode, DowntimeBudget: m.GetDowntimeBudget(), DryRun: m.GetDryRun(), Epoch: own.Epoch,
		AllowPostcopy: m.GetAllowPostcopy() || item.Value.GetSpec().GetAllowPostcopy(), Modes: m.GetModes(),
	}, item, nil
}

func (c *Controller) inTheWay(ctx context.Context, record *drydockv1.PodRecord, own owner.Record, to host, by string) ([]*drydockv1.Refusal, error) {
	var reasons []*drydockv1.Refusal
	name := record.GetSpec().GetName()
	if record.GetMigration() != "" {
		reasons = append(reasons, movingReason(record))
	}
	if why := upgradingReason(record); why != nil {
		return append(reasons, why), nil
	}
	if record.GetDesired() != wantRunning || own.State != owner.Running && own.State != owner.Moving {
		reasons = append(reasons, because("pod "+name+" does not run", "start it: `drydock pod start "+name+"`"))
	} else if !own.Settled && record.GetMigration() == "" {
		reasons = append(reasons, because("pod "+name+" has not reported yet that it runs on "+own.Owner.Host, "wait for that: `drydock pod inspect "+name+"`"))
	}
	if own.Owner.Host == to.name() {
		reasons = append(reasons, because("pod "+name+" is on "+to.name()+" already", "choose another host"))
	}
	if why := to.whyNotFor(by); why != nil {
		reasons = append(reasons, why)
	}
	if own.Owner.Host == "" || own.Owner.Host == to.name() {
		return reasons, nil
	}
	kept, err := c.keptApart(ctx, record.GetSpec())
	if err != nil {
		return nil, err
	}
	if why := kept[to.name()]; why != nil {
		reasons = append(reasons, why)
	}
	from, err := c.host(ctx, own.Owner.Host)
	if err != nil {
		return nil, err
	}
	if !from.answers() {
		return append(reasons, from.why()), nil
	}
	l, err := c.links(ctx)
	if err != nil || !to.answers() {
		return reasons, err
	}
	if found := l.between(from, to); found.state != linkProven {
		reasons = append(reasons, found.why)
	}
	return reasons, nil
}

// enter writes a migration's record, and marks the pod as moving by it, at once.
func (c *Controller) enter(ctx context.Context, r *reign, spec *drydockv1.MigrationSpec, item podItem, requester string) error {
	item.Value.Migration = spec.GetId()
	record := &drydockv1.MigrationRecord{Spec: spec, Requested: timestamppb.New(c.now()), Requester: requester}
	_, err := c.store.Txn().
		If(r.term.Holds(), store.Unchanged(item.Key, item.Revision), store.Unchanged(migrationKey(spec.GetId()), 0)).
		Put(item.Key, item.Value).Put(migrationKey(spec.GetId()), record).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return refuse(fmt.Sprintf("move pod %s to %s", spec.GetPod(), spec.GetTo()),
			because("the pod was changed at the same moment", "look at `drydock pod inspect "+spec.GetPod()+"`, and try again"))
	}
	return err
}

// finishMigration stores the report of a migration and sets its pod free. It may be called again, by both hosts and the
// leader; the most detailed report is kept.
func (c *Controller) finishMigration(ctx context.Context, report *drydockv1.MigrationReport) error {
	for {
		item, err := store.Get[drydockv1.MigrationRecord](ctx, c.store, migrationKey(report.GetId()))
		if errors.Is(err, store.ErrNotFound) {
			return notFound("migration", report.GetId(), "drydock migration ls")
		} else if err != nil {
			return err
		}
		if kept := item.Value.GetReport(); kept != nil && len(kept.GetSteps()) >= len(report.GetSteps()) {
			return nil
		}
		spec := item.Value.GetSpec()
		own, err := c.ownerOf(ctx, spec.GetPod())
		if err != nil {
			return err
		}
		if own.State == owner.Moving && own.Migration == spec.GetId() {
			return refuse("end migration "+spec.GetId(), because("it is not decided", "ask for the decision first"))
		}
		report.Pod, report.From, report.To = spec.GetPod(), spec.GetFrom(), spec.GetTo()
		item.Value.Report = report
		txn := c.store.Txn().If(store.Unchanged(item.Key, item.Revision)).Put(item.Key, item.Value)
		if err := c.setFree(ctx, txn, spec); err != nil {
			return err
		}
		if _, err := txn.Commit(ctx); !errors.Is(err, store.ErrConflict) {
			return errors.Join(err, c.prune(ctx))
		}
	}
}

func (c *Controller) setFree(ctx context.Context, txn *store.Txn, spec *drydockv1.MigrationSpec) error {
	pod, err := store.Get[drydockv1.PodRecord](ctx, c.store, podKey(spec.GetPod()))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if pod.Value.GetMigration() == spec.GetId() {
		pod.Value.Migration = ""
		txn.If(store.Unchanged(pod.Key, pod.Revision)).Put(pod.Key, pod.Value)
	}
	return nil
}

// prune deletes the oldest reports beyond those that are kept.
func (c *Controller) prune(ctx context.Context) error {
	count, err := c.store.Client().Get(ctx, keyMigrations, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("count migrations: %w", err)
	}
	surplus := count.Count - keepMigrations
	if surplus <= 0 {
		return nil
	}
	oldest, err := store.List[drydockv1.MigrationRecord](ctx, c.store, keyMigrations, clientv3.WithLimit(surplus))
	if err != nil {
		return err
	}
	for _, item := range oldest {
		if item.Value.GetReport() == nil {
			continue
		}
		if _, err := c.store.Txn().Delete(item.Key).Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// listMigrations are the reports, the newest first; those that are under way have no outcome yet.
func (c *Controller) listMigrations(ctx context.Context, pod string, limit int) ([]*drydockv1.MigrationReport, error) {
	items, err := store.List[drydockv1.MigrationRecord](ctx, c.store, keyMigrations)
	if err != nil {
		return nil, err
	}
	slices.Reverse(items)
	var reports []*drydockv1.MigrationReport
	for _, item := range items {
		if limit > 0 && len(reports) == limit {
			break
		}
		if pod == "" || item.Value.GetSpec().GetPod() == pod {
			reports = append(reports, reportOf(item.Value))
		}
	}
	return reports, nil
}

func (c *Controller) getMigration(ctx context.Context, id string) (*drydockv1.MigrationReport, error) {
	item, err := store.Get[drydockv1.MigrationRecord](ctx, c.store, migrationKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound("migration", id, "drydock migration ls")
	} else if err != nil {
		return nil, err
	}
	return reportOf(item.Value), nil
}

func reportOf(record *drydockv1.MigrationRecord) *drydockv1.MigrationReport {
	if report := record.GetReport(); report != nil {
		return report
	}
	spec := record.GetSpec()
	return &drydockv1.MigrationReport{
		Id: spec.GetId(), Pod: spec.GetPod(), From: spec.GetFrom(), To: spec.GetTo(), Mode: spec.GetMode(), Started: record.GetRequested(),
	}
}
