package migrate

import (
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
)

func TestTheOutcomeOfAMigrationIsLostWhereThePodIs(t *testing.T) {
	const (
		committed  = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED
		aborted    = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED
		handedBack = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_HANDED_BACK
		lost       = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_LOST
	)
	of := func(state owner.State, outcome owner.Outcome) owner.View {
		return owner.View{Known: true, Record: owner.Record{Incarnation: 3, State: state, Migration: "m1", Outcome: outcome}}
	}
	anew := owner.View{Known: true, Record: owner.Record{Incarnation: 6, State: owner.Running}}
	for _, c := range []struct {
		name    string
		view    owner.View
		arrived bool
		side    owner.Side
		want    drydockv1.MigrationOutcome
	}{
		{"it runs there", of(owner.Running, owner.Commit), true, "", committed},
		{"committed, and not heard of since", of(owner.Running, owner.Commit), false, "", committed},
		{"aborted", of(owner.Running, owner.Abort), false, owner.Resident, aborted},
		{"handed back", of(owner.Running, owner.HandedBack), false, owner.Resident, handedBack},
		{"committed, and lost there", of(owner.Lost, owner.Commit), false, "", lost},
		{"aborted, and the source's copy is gone", of(owner.Lost, owner.Abort), false, "", lost},
		{"lost, and started anew since", anew, false, "", lost},
		{"it arrived, and was started anew since", anew, true, "", committed},
		{"it arrived, and was lost since", of(owner.Lost, owner.Commit), true, "", committed},
		{"nobody answers, and nothing is left here", owner.View{}, false, "", committed},
		{"nobody answers, and it runs here", owner.View{}, false, owner.Resident, aborted},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &move{spec: &drydockv1.MigrationSpec{Id: "m1"}, incarnation: 3, arrivedWhole: c.arrived}
			if got := m.concluded(c.view, owner.Journal{Side: c.side}); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
