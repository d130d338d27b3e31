package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"

	"google.golang.org/protobuf/types/known/durationpb"
)

// decided waits until the destination's tasks run.
func (m *move) decided(context.Context) error {
	if err := m.await(eventRunning); err != nil {
		return err
	}
	m.report.Freeze = durationpb.New(time.Since(m.frozen))
	return nil
}

func (m *move) pluggedIn(context.Context) error {
	err := m.await(eventSettled)
	m.arrivedWhole = err == nil
	return err
}

// await reads the destination's events up to the one that is wanted.
func (m *move) await(want string) error {
	for m.arrived.Receive() {
		event := m.arrived.Msg()
		if event.Event == want {
			return nil
		}
		if rules, found := strings.CutPrefix(event.Event, eventTranslated+" "); found {
			m.report.Translated = strings.Fields(rules)
		}
		if event.Result != nil {
			m.report.FramesHeld = event.Result.FramesHeld
			return fmt.Errorf("%s gave up: %s", m.spec.To, event.Result.Error)
		}
	}
	if err := m.arrived.Err(); err != nil {
		return fmt.Errorf("%s: %w", m.spec.To, err)
	}
	return fmt.Errorf("%s ended its answer before it said %q", m.spec.To, want)
}

// resultWithin is how long the destination may take for what it says last, once this host has nothing left to do. It is longer
// than the destination gives a restore to return.
const resultWithin = 4 * returnWithin

// finish ends the source's copy. What the destination says last is numbers for the report: nothing waits for it.
func (m *move) finish(ctx context.Context) error {
	err := errors.Join(m.catch.Drop(), m.settle(ctx))
	defer time.AfterFunc(resultWithin, m.hangUp).Stop()
	for m.arrived.Receive() {
		if result := m.arrived.Msg().Result; result != nil {
			m.report.FramesHeld = result.FramesHeld
		}
	}
	return err
}

// giveUp undoes the freeze: it asks for an abort, and does what was decided, however long the store is away.
func (m *move) giveUp(ctx context.Context) error {
	m.Engine.place(m.spec.Pod).interrupt()
	return errors.Join(m.standDown(ctx), m.settle(ctx))
}

// settle resolves until this host has nothing left to do with the migration, and learns what became of it.
func (m *move) settle(ctx context.Context) error {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		next, err := m.resolve(ctx, m.spec.Pod, nil)
		if err != nil {
			m.Log.Warn("migration is not settled yet", "pod", m.spec.Pod, "migration", m.spec.Id, "next", next.Action, "error", err)
		}
		j, jerr := m.journals.load(m.spec.Pod)
		if jerr == nil && (j.Side != owner.Source || j.Migration != m.spec.Id) {
			m.outcome(ctx, j)
			return nil
		}
		m.say(&drydockv1.MigrationProgress{Migration: m.spec.Id, Pod: m.spec.Pod, Step: "settle", Message: next.Reason})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// outcome says what was decided: as the record has it, or where that cannot be read, by what is left here.
func (m *move) outcome(ctx context.Context, j owner.Journal) {
	view := m.Store.Look(ctx, m.spec.Pod)
	m.report.Outcome = m.concluded(view, j)
	if m.report.Outcome == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_LOST {
		m.Log.Error("pod was lost in a migration", "pod", m.spec.Pod, "migration", m.spec.Id, "state", view.Record.State, "reason", view.Record.Reason)
	}
}

func (m *move) concluded(view owner.View, j owner.Journal) drydockv1.MigrationOutcome {
	r := view.Record
	switch {
	case m.arrivedWhole:
		return drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED // whatever became of it since
	case view.Known && r.Migration == m.spec.Id && r.Outcome != owner.Undecided:
		return outcomeOf(r)
	case view.Known && r.Incarnation > m.incarnation:
		return drydockv1.MigrationOutcome_MIGRATION_OUTCOME_LOST // and started anew since
	case j.Side == "":
		return drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED
	}
	return drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED
}

func outcomeOf(r owner.Record) drydockv1.MigrationOutcome {
	switch {
	case r.State == owner.Lost:
		return drydockv1.MigrationOutcome_MIGRATION_OUTCOME_LOST
	case r.Outcome == owner.Commit:
		return drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED
	case r.Outcome == owner.HandedBack:
		return drydockv1.MigrationOutcome_MIGRATION_OUTCOME_HANDED_BACK
	}
	return drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED
}

// discard undoes the preparation on both sides.
func (m *move) discard(ctx context.Context) error {
	m.close()
	err := m.standDown(ctx)
	if m.report.Outcome == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED {
		return err
	}
	m.Engine.place(m.spec.Pod).interrupt()
	if err := errors.Join(err, m.settle(ctx)); err != nil {
		return err
	}
	m.discardAt(ctx, m.receiver, m.spec.Pod, m.spec.Id)
	return nil
}
