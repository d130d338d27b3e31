package owner

import (
	"math/rand/v2"
	"testing"
)

var (
	src    = Place{"h1", "h1.1"}
	dst    = Place{"h2", "h2.1"}
	srcNew = Place{"h1", "h1.2"}
	dstNew = Place{"h2", "h2.2"}
)

// migrating is the record of migration m1 in a state.
func migrating(state State, outcome Outcome, settled bool) View {
	r := Record{Pod: "p", Epoch: 2, Incarnation: 2, State: state, Owner: src, Settled: settled, Migration: "m1",
		Outcome: outcome, Source: src, Destination: dst, Revision: 9, Reason: "because"}
	switch outcome {
	case Commit:
		r.Owner, r.Epoch = dst, 3
	case Abort:
		r.Epoch = 3
	case HandedBack:
		r.Epoch = 4
	}
	return View{Known: true, Record: r}
}

func TestNextFollowsTheStateTable(t *testing.T) {
	from := func(stage Stage) Journal {
		return Journal{Pod: "p", Side: Source, Stage: stage, Incarnation: 2, BootID: src.BootID, Migration: "m1", Epoch: 2, Peer: dst}
	}
	to := func(stage Stage, attempts int, ran bool) Journal {
		return Journal{Pod: "p", Side: Destination, Stage: stage, Incarnation: 2, BootID: dst.BootID, Migration: "m1", Epoch: 2, Peer: src,
			Attempts: attempts, Ran: ran}
	}
	lazy := func(j Journal) Journal { j.PostCopy = true; return j }
	unshared := func(j Journal) Journal { j.Unshared = true; return j }
	moving, committed, settled := migrating(Moving, Undecided, false), migrating(Running, Commit, false), migrating(Running, Commit, true)
	aborted, handedBack, lost := migrating(Running, Abort, false), migrating(Running, HandedBack, false), migrating(Lost, Commit, false)
	frozen := Facts{Here: src, Tasks: TasksFrozen}
	for name, tt := range map[string]struct {
		j    Journal
		f    Facts
		v    View
		want Action
	}{
		"source: the store is away":                       {from(Frozen), frozen, View{}, StayFrozen},
		"source: the store was restored from a backup":    {from(Frozen), frozen, View{true, Record{Epoch: 1, Revision: 1}}, StayFrozen},
		"source: begun":                                   {from(Prepared), Facts{Here: src, Tasks: TasksRunning, Plugged: true}, moving, Freeze},
		"source: undecided":                               {from(Dumped), frozen, moving, StayFrozen},
		"source: agent restarted while dumping":           {from(Frozen), Facts{Here: src, Tasks: TasksFrozen, Interrupted: true}, moving, AskAbort},
		"source: agent restarted after the dump":          {from(Dumped), Facts{Here: src, Tasks: TasksFrozen, Interrupted: true}, moving, StayFrozen},
		"source: destination is silent":                   {from(Dumped), Facts{Here: src, Tasks: TasksFrozen, Peer: PeerSilent}, moving, AskAbort},
		"source: booted, undecided":                       {from(Dumped), Facts{Here: srcNew, Tasks: NoTasks}, moving, Wait},
		"source: aborted":                                 {from(Dumped), frozen, aborted, Thaw},
		"source: aborted while CRIU dumps":                {from(Frozen), Facts{Here: src, Tasks: TasksFrozen, Busy: true}, aborted, StayFrozen},
		"source: thawed":                                  {from(Thawing), Facts{Here: src, Tasks: TasksRunning, Plugged: true}, aborted, Settle},
		"source: thawed, not plugged in":                  {from(Thawing), Facts{Here: src, Tasks: TasksRunning}, aborted, Thaw},
		"source: handed back":                             {from(Dumped), frozen, handedBack, Thaw},
		"source: handed back, but booted":                 {from(Dumped), Facts{Here: srcNew, Tasks: NoTasks}, handedBack, ReportLost},
		"source: committed":                               {from(Dumped), frozen, committed, StayFrozen},
		"source: committed, destination gone":             {from(Dumped), Facts{Here: src, Tasks: TasksFrozen, Peer: PeerGone}, committed, StayFrozen},
		"source: committed, and it runs there":            {from(Dumped), frozen, settled, KillAndClean},
		"source: committed, and the peer says it runs":    {from(Dumped), Facts{Here: src, Tasks: TasksFrozen, PeerSettled: true}, committed, KillAndClean},
		"source: committed, then lost":                    {from(Dumped), frozen, lost, KillAndClean},
		"destination: the store is away":                  {to(Restoring, 1, false), Facts{Here: dst, Tasks: TasksHeld}, View{}, Wait},
		"destination: everything is here":                 {to(Received, 0, false), Facts{Here: dst, Tasks: NoTasks, Complete: true}, moving, Restore},
		"destination: rebuilt":                            {to(Restoring, 1, false), Facts{Here: dst, Tasks: TasksHeld, Complete: true}, moving, AskCommit},
		"destination: rebuilt, source gone":               {to(Restoring, 1, false), Facts{Here: dst, Tasks: TasksHeld, Complete: true, Peer: PeerGone}, moving, AskCommit},
		"destination: post-copy, source gone":             {lazy(to(Restoring, 1, false)), Facts{Here: dst, Tasks: TasksHeld, Peer: PeerGone}, moving, AskAbort},
		"destination: restarted while receiving":          {to(Prepared, 0, false), Facts{Here: dst, Tasks: NoTasks, Interrupted: true}, moving, AskAbort},
		"destination: restore failed, source whole":       {to(Restoring, 1, false), Facts{Here: dst, Tasks: NoTasks, Complete: true, Peer: PeerWhole}, moving, AskAbort},
		"destination: restore failed, source gone":        {to(Restoring, 1, false), Facts{Here: dst, Tasks: NoTasks, Complete: true, Peer: PeerGone}, moving, Restore},
		"destination: one container failed, source whole": {to(Restoring, 1, false), Facts{Here: dst, Tasks: TasksHeld, Broken: true, Complete: true, Peer: PeerWhole}, moving, AskAbort},
		"destination: one container failed late":          {to(Committed, 1, true), Facts{Here: dst, Tasks: TasksRunning, Broken: true, Complete: true, Peer: PeerWhole}, committed, KillAndClean},
		"destination: booted, undecided":                  {to(Restoring, 1, false), Facts{Here: dstNew, Tasks: NoTasks}, moving, AskAbort},
		"destination: aborted":                            {to(Restoring, 1, false), Facts{Here: dst, Tasks: TasksHeld, Complete: true}, aborted, DropCopy},
		"destination: committed":                          {to(Restoring, 1, false), Facts{Here: dst, Tasks: TasksHeld, Complete: true}, committed, Run},
		"destination: committed, runs":                    {to(Committed, 1, true), Facts{Here: dst, Tasks: TasksRunning, Complete: true}, committed, PlugIn},
		"destination: plugged in":                         {to(PluggedIn, 1, true), Facts{Here: dst, Tasks: TasksRunning, Plugged: true, Complete: true}, committed, Settle},
		"destination: pages are to come":                  {lazy(to(PluggedIn, 1, true)), Facts{Here: dst, Tasks: TasksRunning, Plugged: true}, committed, Nothing},
		"destination: pages are lost":                     {lazy(to(PluggedIn, 1, true)), Facts{Here: dst, Tasks: TasksRunning, Plugged: true, Broken: true}, committed, KillAndClean},
		"destination: CRIU failed late, source whole":     {to(Committed, 1, false), Facts{Here: dst, Tasks: NoTasks, Complete: true, Peer: PeerWhole}, committed, HandBack},
		"destination: CRIU failed late, source unknown":   {to(Committed, 1, false), Facts{Here: dst, Tasks: NoTasks, Complete: true}, committed, Restore},
		"destination: CRIU failed late, source gone":      {to(Committed, 3, false), Facts{Here: dst, Tasks: NoTasks, Complete: true, Peer: PeerGone}, committed, ReportLost},
		"destination: ended after it ran":                 {to(Committed, 1, true), Facts{Here: dst, Tasks: NoTasks, Complete: true, Peer: PeerWhole}, committed, ReportLost},
		"destination: ended before anybody saw it run":    {unshared(to(Committed, 1, true)), Facts{Here: dst, Tasks: NoTasks, Complete: true, Peer: PeerWhole}, committed, HandBack},
		"destination: failed late, nobody saw it run":     {unshared(to(Committed, 1, true)), Facts{Here: dst, Tasks: TasksRunning, Broken: true, Complete: true}, committed, HandBack},
		"destination: failed late, source gone":           {unshared(to(Committed, 1, true)), Facts{Here: dst, Tasks: TasksRunning, Broken: true, Peer: PeerGone}, committed, KillAndClean},
		"destination: unseen, and the source is gone":     {unshared(to(Committed, 1, true)), Facts{Here: dst, Tasks: NoTasks, Complete: true, Peer: PeerGone}, committed, ReportLost},
		"destination: ended after it was plugged in":      {unshared(to(PluggedIn, 1, true)), Facts{Here: dst, Tasks: NoTasks, Complete: true, Peer: PeerWhole}, committed, ReportLost},
		"destination: handing back what ran unseen":       {unshared(to(HandingBack, 1, true)), Facts{Here: dst, Tasks: NoTasks}, committed, HandBack},
		"destination: booted, nobody saw it run":          {unshared(to(Committed, 1, true)), Facts{Here: dstNew, Tasks: NoTasks}, committed, HandBack},
		"destination: booted before it ran":               {to(Committed, 1, false), Facts{Here: dstNew, Tasks: NoTasks}, committed, HandBack},
		"destination: booted after it ran":                {to(Committed, 1, true), Facts{Here: dstNew, Tasks: NoTasks}, committed, ReportLost},
		"destination: handing back, restarted":            {to(HandingBack, 1, false), Facts{Here: dst, Tasks: NoTasks, Complete: true}, committed, HandBack},
		"destination: handed back":                        {to(HandingBack, 1, false), Facts{Here: dst, Tasks: NoTasks}, handedBack, DropCopy},
		"destination: settled":                            {to(PluggedIn, 1, true), Facts{Here: dst, Tasks: TasksRunning, Plugged: true, Complete: true}, settled, Adopt},
		"destination: disk gone":                          {Journal{}, Facts{Here: dst, Tasks: NoTasks}, committed, ReportLost},
		"elsewhere: a leftover of a pod that is not ours": {Journal{}, Facts{Here: Place{"h3", "h3.1"}, Tasks: TasksRunning}, settled, KillAndClean},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Next(tt.j, tt.f, tt.v); got.Action != tt.want || got.Reason == "" {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// situationAt draws a situation, possible or not.
func situationAt(rng *rand.Rand) (Journal, Facts, View) {
	coin := func() bool { return rng.IntN(2) == 0 }
	j := Journal{Pod: "p", Side: pick(rng, "", Resident, Source, Destination), Incarnation: pick[uint64](rng, 1, 2), Epoch: 2,
		Stage:     pick(rng, Starting, Up, Prepared, Frozen, Dumped, Thawing, Received, Restoring, Committed, HandingBack, PluggedIn),
		Migration: pick(rng, "m1", "m1", "m0"), Attempts: rng.IntN(4), Ran: coin(), Unshared: coin(), PostCopy: coin()}
	f := Facts{Here: pick(rng, src, srcNew, dst, dstNew), Tasks: pick(rng, NoTasks, TasksFrozen, TasksHeld, TasksRunning), Plugged: coin(),
		Busy: coin(), Interrupted: coin(), Complete: coin(), Broken: coin(), PeerSettled: coin(),
		Peer: pick(rng, PeerUnknown, PeerWhole, PeerFailed, PeerSilent, PeerGone)}
	j.BootID = pick(rng, f.Here.BootID, "other")
	if j.Side == Resident || j.Side == "" {
		j.Migration, j.Epoch = "", 0
	}
	v := migrating(pick(rng, Running, Running, Moving, Stopping, Stopped, Lost, Created, Removed), pick(rng, Undecided, Commit, Abort, HandedBack), coin())
	v.Known = rng.IntN(5) > 0
	return j, f, v
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func TestNextNeverBreaksTheLawsInAnySituation(t *testing.T) {
	laws := map[string]func(j Journal, f Facts, v View, a Action) bool{
		"without a record nothing changes": func(j Journal, f Facts, v View, a Action) bool {
			return v.Known || a == Wait || a == StayFrozen || a == Nothing
		},
		"only an abort or a hand-back thaws": func(j Journal, f Facts, v View, a Action) bool {
			r := v.Record
			return a != Thaw || r.State == Running && r.Owner == f.Here && r.Migration == j.Migration && (r.Outcome == Abort || r.Outcome == HandedBack) && !f.Busy
		},
		"only the source of what has begun freezes": func(j Journal, f Facts, v View, a Action) bool {
			return a != Freeze || v.Record.State == Moving && v.Record.Source == f.Here && j.Side == Source && j.Migration == v.Record.Migration
		},
		"only a commit to this boot runs": func(j Journal, f Facts, v View, a Action) bool {
			r := v.Record
			return a != Run || r.State == Running && r.Owner == f.Here && r.Outcome == Commit && r.Migration == j.Migration && f.Tasks == TasksHeld && !f.Broken
		},
		"only what is rebuilt asks for commit": func(j Journal, f Facts, v View, a Action) bool {
			return a != AskCommit || f.Tasks == TasksHeld && !f.Broken && j.Side == Destination && v.Record.Destination == f.Here
		},
		"what may have run is not restored": func(j Journal, f Facts, v View, a Action) bool {
			return a != Restore || v.Record.State == Moving || !j.Ran && f.Tasks != TasksRunning
		},
		"what somebody may have seen running is not handed back": func(j Journal, f Facts, v View, a Action) bool {
			return a != HandBack || !j.Seen() && (f.Tasks != TasksRunning || j.Unshared)
		},
		"a frozen source is not killed while it may have to run": func(j Journal, f Facts, v View, a Action) bool {
			r := v.Record
			if a != KillAndClean && a != DropCopy || j.Side != Source || f.Tasks != TasksFrozen || r.Migration != j.Migration || j.BootID != f.Here.BootID {
				return true
			}
			return r.State != Moving && (r.State != Running || r.Outcome == Commit && (r.Settled || f.PeerSettled))
		},
		"only the owner in this boot starts, plugs in, settles": func(j Journal, f Facts, v View, a Action) bool {
			return a != StartFresh && a != PlugIn && a != Settle || v.Record.State == Running && v.Record.Owner == f.Here
		},
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1_000_000 {
		j, f, v := situationAt(rng)
		step := Next(j, f, v)
		for name, holds := range laws {
			if !holds(j, f, v, step.Action) {
				t.Fatalf("%s: got %+v from\n%+v\n%+v\n%+v", name, step, j, f, v)
			}
		}
	}
}
