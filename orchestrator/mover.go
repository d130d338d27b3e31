package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// mover follows one migration that its source's agent drives, for everyone who wants to watch.
type mover struct {
	spec *drydockv1.MigrationSpec

	mu      sync.Mutex
	events  []*drydockv1.MigrationProgress
	report  *drydockv1.MigrationReport
	changed chan struct{}
}

func newMover(spec *drydockv1.MigrationSpec) *mover {
	return &mover{spec: spec, changed: make(chan struct{})}
}

// tell notes progress. Of the progress within one step the latest is kept.
func (m *mover) tell(progress *drydockv1.MigrationProgress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last := len(m.events) - 1; last >= 0 && m.events[last].GetStep() == progress.GetStep() {
		m.events[last] = progress
	} else {
		m.events = append(m.events, progress)
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *mover) end(report *drydockv1.MigrationReport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report = report
	close(m.changed)
	m.changed = make(chan struct{})
}

// watch sends what was missed and what is new until the migration has ended, and returns its report.
func (m *mover) watch(ctx context.Context, r *reign, send func(*drydockv1.MigrationProgress) error) (*drydockv1.MigrationReport, error) {
	next := 0
	var last *drydockv1.MigrationProgress
	for {
		m.mu.Lock()
		fresh, report, changed := append([]*drydockv1.MigrationProgress(nil), m.events[next:]...), m.report, m.changed
		m.mu.Unlock()
		for _, progress := range fresh {
			if progress == last {
				continue
			}
			if err := send(progress); err != nil {
				return nil, err
			}
			last = progress
		}
		if report != nil {
			return report, nil
		}
		// The last event may still be replaced.
		next = max(next+len(fresh)-1, 0)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.ctx.Done():
			return nil, connect.NewError(connect.CodeUnavailable,
				fmt.Errorf("this controller stops; migration %s goes on: see `drydock migration show %s`", m.spec.GetId(), m.spec.GetId()))
		}
	}
}

// follow starts or finds the mover of a migration that is on record.
func (c *Controller) follow(r *reign, spec *drydockv1.MigrationSpec) *mover {
	r.mu.Lock()
	m, ok := r.movers[spec.GetId()]
	if !ok {
		m = newMover(spec)
		r.movers[spec.GetId()] = m
	}
	r.mu.Unlock()
	if !ok {
		r.spawn(func() { c.drive(r, m) })
	}
	return m
}

// reattach follows a migration that is on record as a pod's, if it is not followed yet.
func (c *Controller) reattach(r *reign, pod, id string) error {
	item, err := store.Get[drydockv1.MigrationRecord](r.ctx, c.store, migrationKey(id))
	if err != nil {
		return fmt.Errorf("migration of pod %s: %w", pod, err)
	}
	if item.Value.GetReport() == nil {
		c.follow(r, item.Value.GetSpec())
	}
	return nil
}

// drive calls the source's agent, again and again where that breaks off, until the migration has ended.
func (c *Controller) drive(r *reign, m *mover) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.movers, m.spec.GetId())
	}()
	for r.ctx.Err() == nil {
		report, err := c.followAgent(r.ctx, m)
		if report == nil {
			c.log.Info("migration is not followed at the moment", "migration", m.spec.GetId(), "error", err)
			report = c.conclude(r, m.spec, err)
		}
		if report != nil {
			err = c.finishMigration(r.ctx, report)
			if err == nil {
				c.log.Info("migration ended", "migration", report.GetId(), "pod", report.GetPod(), "outcome", report.GetOutcome())
				m.end(report)
				return
			}
			c.log.Warn("migration's end is not stored yet", "migration", m.spec.GetId(), "error", err)
		}
		sleep(r.ctx, pause)
	}
}

// followAgent relays one call's progress, and returns the report if it came.
func (c *Controller) followAgent(ctx context.Context, m *mover) (*drydockv1.MigrationReport, error) {
	return c.migrateAt(ctx, m.spec, func(progress *drydockv1.MigrationProgress) error {
		m.tell(progress)
		return nil
	})
}

// migrateAt has the source's agent migrate, and returns its report.
func (c *Controller) migrateAt(ctx context.Context, spec *drydockv1.MigrationSpec, tell func(*drydockv1.MigrationProgress) error) (*drydockv1.MigrationReport, error) {
	agent, err := c.agentOf(ctx, spec.GetFrom())
	if err != nil {
		return nil, err
	}
	stream, err := agent.Migrate(ctx, connect.NewRequest(&drydockv1.AgentMigrateRequest{Spec: spec}))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", spec.GetFrom(), err)
	}
	var report *drydockv1.MigrationReport
	for report == nil && stream.Receive() {
		switch event := stream.Msg().GetEvent().(type) {
		case *drydockv1.MigratePodResponse_Progress:
			err = tell(event.Progress)
		case *drydockv1.MigratePodResponse_Report:
			report = event.Report
		}
		if err != nil {
			return nil, errors.Join(err, stream.Close())
		}
	}
	broken := stream.Err()
	closing := stream.Close()
	switch {
	case report != nil:
		return report, nil
	case broken != nil:
		return nil, fmt.Errorf("host %s: %w", spec.GetFrom(), broken)
	}
	return nil, connect.NewError(connect.CodeUnavailable, errors.Join(fmt.Errorf("host %s ended the call without a report", spec.GetFrom()), closing))
}

// conclude is the report of a migration that the source's agent gives none of: it was stored by others, the agent refuses, or
// the source is gone and the owner's record says what was decided. It is nil while the outcome is open.
func (c *Controller) conclude(r *reign, spec *drydockv1.MigrationSpec, cause error) *drydockv1.MigrationReport {
	if item, err := store.Get[drydockv1.MigrationRecord](r.ctx, c.store, migrationKey(spec.GetId())); err == nil && item.Value.GetReport() != nil {
		return item.Value.GetReport()
	}
	own, err := c.ownerOf(r.ctx, spec.GetPod())
	if err != nil {
		return nil
	}
	mine := own.Migration == spec.GetId()
	refused := final(cause)
	if mine && own.State == owner.Moving {
		// A source that has booted holds no copy any more: the destination may hold the only one, and decides.
		if h, err := c.host(r.ctx, spec.GetFrom()); !refused || err != nil || h.record.GetBootId() != own.Source.BootID {
			return nil
		}
		if own, err = r.owners.Decide(r.ctx, spec.GetPod(), spec.GetId(), owner.Abort); err != nil {
			return nil
		}
	}
	if !refused && !c.sourceGone(r.ctx, spec, own) {
		return nil
	}
	report := &drydockv1.MigrationReport{
		Id: spec.GetId(), Pod: spec.GetPod(), From: spec.GetFrom(), To: spec.GetTo(), Mode: spec.GetMode(),
		Outcome: drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED, Finished: timestamppb.New(c.now()), Error: refusal.OnWire(cause).Error(),
	}
	switch {
	case mine && own.Outcome == owner.Commit && own.State == owner.Lost:
		report.Outcome = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_LOST
	case mine && own.Outcome == owner.Commit:
		report.Outcome = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED
	case mine && own.Outcome == owner.HandedBack:
		report.Outcome = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_HANDED_BACK
	case refused && !mine:
		report.Outcome, report.Refusals = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED, refusal.Of(cause)
	}
	return report
}

// final says whether an agent's error means that it will never run the migration.
func final(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeFailedPrecondition, connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeUnimplemented, connect.CodePermissionDenied:
		return true
	}
	return false
}

// sourceGone says whether the boot that a migration began in is over, or its host removed, so that no report will come from it
// soon.
func (c *Controller) sourceGone(ctx context.Context, spec *drydockv1.MigrationSpec, own owner.Record) bool {
	h, err := c.host(ctx, spec.GetFrom())
	if connect.CodeOf(err) == connect.CodeNotFound {
		return true
	}
	if err != nil || h.answers() {
		return false
	}
	return own.Epoch != spec.GetEpoch()
}
