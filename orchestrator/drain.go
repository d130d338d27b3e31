package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// defaultParallel is how many pods a drain moves at a time where nothing else is asked for.
const defaultParallel = 2

// drain empties one host. Its record in the store makes the next leader carry on with it.
type drain struct {
	c    *Controller
	r    *reign
	host string
	spec *drydockv1.Drain

	mu      sync.Mutex
	events  []*drydockv1.DrainHostResponse
	over    bool
	changed chan struct{}
	summary drydockv1.DrainSummary
}

// drainHost cordons a host and starts, or finds, its drain.
func (c *Controller) drainHost(ctx context.Context, r *reign, name, by string, spec *drydockv1.Drain) (*drain, error) {
	if spec.GetParallel() < 0 {
		return nil, invalid("drain host %s: %d pods at a time are too few", name, spec.GetParallel())
	}
	h, err := c.host(ctx, name)
	if err != nil {
		return nil, err
	}
	if !h.answers() {
		return nil, refuse("drain host "+name, h.why())
	}
	if err := c.notOfARollout(ctx, "drain host "+name, name); err != nil {
		return nil, err
	}
	spec.Parallel = cmp.Or(spec.GetParallel(), defaultParallel)
	if err := c.cordon(ctx, name, by, spec); err != nil {
		return nil, err
	}
	return c.startDrain(r, name, spec), nil
}

func (c *Controller) startDrain(r *reign, name string, spec *drydockv1.Drain) *drain {
	r.mu.Lock()
	d, ok := r.drains[name]
	if !ok {
		d = &drain{c: c, r: r, host: name, spec: spec, changed: make(chan struct{})}
		r.drains[name] = d
	}
	r.mu.Unlock()
	if !ok {
		r.spawn(d.run)
	}
	return d
}

func (d *drain) run() {
	err := d.moveAll(d.r.ctx)
	if err != nil {
		d.refuse(because("the drain stopped: "+err.Error(), "run `drydock host drain "+d.host+"` again"))
	}
	// An ended term leaves the record, and the next leader drains on.
	if d.r.ctx.Err() == nil {
		if err := d.c.endDrain(d.r.ctx, d.host); err != nil {
			d.c.log.Error("drain's end is not stored", "host", d.host, "error", err)
		}
	}
	d.r.mu.Lock()
	delete(d.r.drains, d.host)
	d.r.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	d.push(&drydockv1.DrainHostResponse{Event: &drydockv1.DrainHostResponse_Summary{Summary: &d.summary}})
}

// endDrain keeps the cordon; only resuming the host lifts it.
func (c *Controller) endDrain(ctx context.Context, name string) error {
	_, err := store.Update(ctx, c.store, hostKey(name), func(item store.Item[*drydockv1.HostRecord]) error {
		if item.Value.GetCordon().GetDrain() == nil {
			return store.ErrUnchanged
		}
		item.Value.Cordon.Drain = nil
		return nil
	})
	return err
}

// moveAll tries every pod once. Stopped pods stay: nothing of them runs.
func (d *drain) moveAll(ctx context.Context) error {
	pods, err := d.c.running(ctx, d.host)
	if err != nil {
		return err
	}
	slots := make(chan struct{}, d.spec.GetParallel())
	var group sync.WaitGroup
	for _, name := range pods {
		slots <- struct{}{}
		if !d.wanted(ctx) {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			d.moveOff(ctx, name)
		})
	}
	group.Wait()
	left, err := d.c.running(ctx, d.host)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.summary.Remaining = int32(len(left))
	return err
}

// wanted says whether the host is still to be drained: resuming it ends the drain between two pods.
func (d *drain) wanted(ctx context.Context) bool {
	h, err := d.c.host(ctx, d.host)
	return err == nil && h.record.GetCordon().GetDrain() != nil
}

// running are the pods that a host runs or is to run.
func (c *Controller) running(ctx context.Context, name string) ([]string, error) {
	owners, err := c.ownerRecords(ctx)
	if err != nil {
		return nil, err
	}
	var pods []string
	for pod, record := range owners {
		if record.Owned() && record.Owner.Host == name {
			pods = append(pods, pod)
		}
	}
	slices.Sort(pods)
	return pods, nil
}

// moveOff moves a pod to the first host, best first, that does not refuse it.
func (d *drain) moveOff(ctx context.Context, pod string) {
	if report, err := d.alreadyMoving(ctx, pod); err == nil && report != nil && d.moved(report) {
		return
	}
	candidates, reasons, err := d.candidates(ctx, pod)
	if err != nil {
		d.refuse(because(fmt.Sprintf("pod %s: %s", pod, err), "run `drydock host drain "+d.host+"` again"))
		return
	}
	for _, to := range candidates {
		report, err := d.c.migrate(ctx, d.r, &drydockv1.MigratePodRequest{Pod: pod, To: to.name(), Mode: d.spec.GetMode()}, "drain of "+d.host, d.progress)
		switch {
		case err != nil:
			reasons = append(reasons, refusal.Why(err)...)
		case d.moved(report):
			return
		default:
			reasons = append(reasons, refusal.OfMigration(report)...)
		}
		if err == nil && report.GetOutcome() != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED {
			break
		}
	}
	for _, reason := range reasons {
		d.refuse(because(fmt.Sprintf("pod %s: %s", pod, reason.GetReason()), reason.GetRemedy()))
	}
	if len(reasons) == 0 {
		d.refuse(because("pod "+pod+": there is no other host", "let one join: `drydock host join NAME`"))
	}
}

// alreadyMoving waits for a migration that was under way before.
func (d *drain) alreadyMoving(ctx context.Context, pod string) (*drydockv1.MigrationReport, error) {
	item, err := d.c.pod(ctx, pod)
	if err != nil || item.Value.GetMigration() == "" {
		return nil, err
	}
	migration, err := store.Get[drydockv1.MigrationRecord](ctx, d.c.store, migrationKey(item.Value.GetMigration()))
	if err != nil {
		return nil, err
	}
	return d.c.follow(d.r, migration.Value.GetSpec()).watch(ctx, d.r, d.progress)
}

func (d *drain) candidates(ctx context.Context, pod string) ([]host, []*drydockv1.Refusal, error) {
	item, err := d.c.pod(ctx, pod)
	if err != nil {
		return nil, nil, err
	}
	hosts, err := d.c.hosts(ctx)
	if err != nil {
		return nil, nil, err
	}
	kept, err := d.c.keptApart(ctx, item.Value.GetSpec())
	if err != nil {
		return nil, nil, err
	}
	reasons := leaveOut(hosts, kept)
	ranked, more := rank(hosts, needOf(item.Value.GetSpec()), []string{d.host})
	return ranked, append(reasons, more...), nil
}

func (d *drain) progress(progress *drydockv1.MigrationProgress) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.push(&drydockv1.DrainHostResponse{Event: &drydockv1.DrainHostResponse_Progress{Progress: progress}})
	return nil
}

// moved tells a report, and says whether the pod is off the host.
func (d *drain) moved(report *drydockv1.MigrationReport) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.push(&drydockv1.DrainHostResponse{Event: &drydockv1.DrainHostResponse_Report{Report: report}})
	if report.GetOutcome() != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED {
		return false
	}
	d.summary.Moved++
	return true
}

func (d *drain) refuse(reason *drydockv1.Refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.summary.Refusals = append(d.summary.Refusals, reason)
}

func (d *drain) push(event *drydockv1.DrainHostResponse) {
	d.events = append(d.events, event)
	close(d.changed)
	d.changed = make(chan struct{})
}

// watch sends everything from the drain's start until its summary.
func (d *drain) watch(ctx context.Context, send func(*drydockv1.DrainHostResponse) error) error {
	for next := 0; ; {
		d.mu.Lock()
		fresh, over, changed := d.events[next:], d.over, d.changed
		d.mu.Unlock()
		for _, event := range fresh {
			if err := send(event); err != nil {
				return err
			}
		}
		next += len(fresh)
		if over {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryDrain says what a drain would do, by dry runs; nothing is cordoned.
func (c *Controller) tryDrain(ctx context.Context, r *reign, name string, mode drydockv1.MigrationMode, send func(*drydockv1.DrainHostResponse) error) error {
	if _, err := c.host(ctx, name); err != nil {
		return err
	}
	d := &drain{c: c, r: r, host: name, changed: make(chan struct{})}
	pods, err := c.running(ctx, name)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if err := d.try(ctx, pod, mode); err != nil {
			return err
		}
	}
	d.summary.Remaining = int32(len(pods)) - d.summary.GetMoved()
	d.push(&drydockv1.DrainHostResponse{Event: &drydockv1.DrainHostResponse_Summary{Summary: &d.summary}})
	d.over = true
	return d.watch(ctx, send)
}

func (d *drain) try(ctx context.Context, pod string, mode drydockv1.MigrationMode) error {
	candidates, reasons, err := d.candidates(ctx, pod)
	if err != nil {
		return err
	}
	for _, to := range candidates {
		report, err := d.c.migrate(ctx, d.r, &drydockv1.MigratePodRequest{Pod: pod, To: to.name(), Mode: mode, DryRun: true}, "", d.progress)
		if err != nil {
			reasons = append(reasons, refusal.Why(err)...)
			continue
		}
		d.push(&drydockv1.DrainHostResponse{Event: &drydockv1.DrainHostResponse_Report{Report: report}})
		if report.GetOutcome() != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED {
			d.summary.Moved++
			return nil
		}
		reasons = append(reasons, report.GetRefusals()...)
	}
	for _, reason := range reasons {
		d.refuse(because(fmt.Sprintf("pod %s: %s", pod, reason.GetReason()), reason.GetRemedy()))
	}
	return nil
}

// migrate moves a pod and waits for the report, or, for a dry run, only asks. The migration itself goes on when ctx ends.
func (c *Controller) migrate(ctx context.Context, r *reign, m *drydockv1.MigratePodRequest, requester string, tell func(*drydockv1.MigrationProgress) error) (*drydockv1.MigrationReport, error) {
	spec, item, err := c.plan(ctx, m, requester)
	if err != nil {
		return nil, err
	}
	if spec.GetDryRun() {
		return c.migrateAt(withTerm(ctx, r.term), spec, tell)
	}
	if err := c.enter(ctx, r, spec, item, requester); err != nil {
		return nil, err
	}
	c.log.Info("migration begins", "migration", spec.GetId(), "pod", spec.GetPod(), "from", spec.GetFrom(), "to", spec.GetTo())
	return c.follow(r, spec).watch(ctx, r, tell)
}
