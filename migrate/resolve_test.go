package migrate

import (
	"testing"

	"drydock/migrate/owner"
)

func TestFilesOfAPodAreRemovedOnlyWhereTheStoreSaysThatTheyAreNobodys(t *testing.T) {
	here, other := owner.Place{Host: "h1", BootID: "b1"}, owner.Place{Host: "h2", BootID: "b2"}
	for _, c := range []struct {
		name   string
		record owner.Record
		epoch  uint64
		want   bool
	}{
		{"it runs elsewhere since", owner.Record{Revision: 9, Epoch: 5, State: owner.Running, Owner: other}, 3, true},
		{"it was removed", owner.Record{Revision: 9, Epoch: 5, State: owner.Removed, Owner: here}, 3, true},
		{"it was stopped here", owner.Record{Revision: 9, Epoch: 5, State: owner.Stopped, Owner: here}, 3, false},
		{"it was lost here", owner.Record{Revision: 9, Epoch: 5, State: owner.Lost, Owner: here}, 3, false},
		{"it is on its way here", owner.Record{Revision: 9, Epoch: 5, State: owner.Moving, Owner: other, Destination: here}, 5, false},
		{"it is on its way elsewhere", owner.Record{Revision: 9, Epoch: 5, State: owner.Moving, Owner: other, Destination: owner.Place{Host: "h3"}}, 3, true},
		{"the store does not know the pod", owner.Record{}, 3, false},
		{"the store is older than what is here", owner.Record{Revision: 9, Epoch: 2, State: owner.Running, Owner: other}, 3, false},
		{"an older store says removed", owner.Record{Revision: 9, Epoch: 2, State: owner.Removed, Owner: other}, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := forgettable(c.record, here.Host, c.epoch); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestTheLastFilesAreWhereThePodStoppedLast(t *testing.T) {
	for _, c := range []struct {
		state owner.State
		host  string
		want  bool
	}{
		{owner.Stopped, "h1", true}, {owner.Stopping, "h1", true}, {owner.Lost, "h1", true},
		{owner.Stopped, "h2", false}, {owner.Running, "h1", false}, {owner.Removed, "h1", false}, {owner.Moving, "h1", false},
	} {
		if got := last(owner.Record{State: c.state, Owner: owner.Place{Host: "h1"}}, c.host); got != c.want {
			t.Errorf("%s, asked of %s: got %t", c.state, c.host, got)
		}
	}
}
