package owner

import (
	"context"
	"errors"
)

const (
	callPatience = 150    // for an answer
	patience     = 600    // for a peer that does not answer, and for a migration that does not begin
	quick, slow  = 8, 100 // between two looks
)

// agent is the process on a host. What is not in its host's kernel or on its disk is gone when it ends.
type agent struct {
	*proc
	h           *host
	held        bool // one thing at a time is done about the pod
	interrupted bool
	peerSettled bool
	heard       int64 // when the peer last answered
	since       int64 // when the present stage began
	stage       string
}

func newAgent(w *world, h *host) *agent {
	a := &agent{h: h}
	a.proc = &proc{w: w, name: "agent " + h.name, machine: h, cut: map[*proc]int64{}}
	a.main = func(t *thread) {
		*a = agent{proc: a.proc, h: h, heard: w.now, since: w.now}
		a.interrupted = true
		for {
			if a.look(t) {
				t.sleep(w.between(1, quick))
			} else {
				t.sleep(w.between(slow/2, slow))
			}
		}
	}
	return a
}

func (a *agent) lock(t *thread) bool {
	for range 50 {
		if !a.held {
			a.held = true
			return true
		}
		t.sleep(3)
	}
	return false
}

// journal writes to the disk, and may be killed on either side of it.
func (a *agent) journal(t *thread, j Journal) {
	t.step()
	j.Version = journalVersion
	a.h.onDisk.journal = j
	a.w.logf("%s: journal %s", a.h.name, j)
	t.step()
}

// look asks for the next step and takes it. busy says that there will soon be another.
func (a *agent) look(t *thread) (busy bool) {
	if !a.lock(t) {
		return false
	}
	defer func() { a.held = false }()
	j := a.recall()
	if s := j.String(); s != a.stage {
		a.stage, a.since = s, a.w.now
	}
	if j.Side == Resident || j.Side == "" {
		a.interrupted = false
		a.peerSettled = false
	}
	f := a.facts(t, j)
	v := a.view(t)
	if late := a.w.now-a.since > patience; v.Known && late && (v.Record.State == Moving || v.Record.State == Running && v.Record.Migration != j.Migration) {
		f.Interrupted = f.Interrupted || j.Stage == Prepared || j.Side == Resident
	}
	// CRIU has its own life: what it shows is read again right before the rules are asked.
	f = a.kernel(f, j)
	step := a.w.rules.next(a.recall(), f, v)
	a.w.actions[step.Action]++
	if step.Action != Nothing && step.Action != Wait && step.Action != StayFrozen {
		a.w.logf("%s: %s: %s", a.h.name, step.Action, step.Reason)
	}
	t.step()
	a.take(t, a.recall(), v.Record, step)
	return j.Side == Source || j.Side == Destination || step.Action == StartFresh || step.Action == KillAndClean
}

// recall is the journal with what CRIU's hook left on the disk.
func (a *agent) recall() Journal {
	j := a.h.onDisk.journal
	if j.Side == Destination && a.h.onDisk.ran == j.Migration {
		j.Ran = true
	}
	return j
}

func (a *agent) kernel(f Facts, j Journal) Facts {
	k := a.h.kernel
	f.Tasks, f.Plugged, f.Busy, f.Broken = k.tasks, k.plugged, k.busy, k.lost
	f.Complete = j.Side == Destination && k.image != nil && k.image.migration == j.Migration && k.image.pages
	return f
}

func (a *agent) facts(t *thread, j Journal) Facts {
	f := Facts{Here: a.h.place(), Interrupted: a.interrupted, Peer: PeerUnknown}
	if j.Side != Source && j.Side != Destination {
		return f
	}
	peer := a.w.host(j.Peer.Host)
	type state struct {
		boot    string
		journal Journal
		tasks   Tasks
	}
	got, ok := call(t, peer.agent.proc, callPatience, func(h *thread) state {
		return state{peer.bootID(), peer.onDisk.journal, peer.kernel.tasks}
	})
	confirmed := false
	if !ok {
		confirmed, _ = through(t, func(*thread) bool { return peer.claimed })
	}
	switch same := got.journal.Migration == j.Migration && got.journal.Side != j.Side; {
	case confirmed:
		f.Peer = PeerGone
	case !ok && a.w.now-a.heard > patience:
		f.Peer = PeerSilent
	case !ok:
	case got.boot != j.Peer.BootID:
		f.Peer = PeerGone
	case same && j.Side == Destination && got.tasks == TasksFrozen, same && j.Side == Source:
		f.Peer = PeerWhole
	case !same && j.Stage != Prepared:
		f.Peer = PeerFailed
	}
	if ok {
		a.heard = a.w.now
	}
	f.PeerSettled = a.peerSettled
	return f
}

// through has a controller carry an operation out.
func through[T any](t *thread, do func(h *thread) T) (T, bool) {
	w := t.p.w
	c := w.controllers[w.rng.IntN(len(w.controllers))]
	return call(t, c.proc, callPatience, do)
}

func (a *agent) view(t *thread) View {
	v, _ := through(t, func(h *thread) View {
		return Registry{Store: client{h}}.Look(context.Background(), pod)
	})
	return v
}

// ask says whether an answer came.
func (a *agent) ask(t *thread, do func(Registry, operations) error) bool {
	rules := a.w.rules
	err, ok := through(t, func(h *thread) error {
		g := Registry{Store: client{h}}
		return do(g, rules.registry(g))
	})
	return ok && !errors.Is(err, ErrUnknown)
}

func second(_ Record, err error) error { return err }

// take carries a step out as the comments of Action say.
func (a *agent) take(t *thread, j Journal, r Record, step Step) {
	bg, here, h := context.Background(), a.h.place(), a.h
	switch step.Action {
	case StayFrozen:
		a.dump(t, j)
	case StartFresh:
		a.journal(t, Journal{Pod: pod, Side: Resident, Stage: Starting, Incarnation: r.Incarnation, BootID: here.BootID})
		h.kill()
		t.step()
		a.w.started(h, r.Incarnation)
		h.set(TasksRunning)
		t.step()
		h.kernel.plugged = true
		j = h.onDisk.journal
		j.Stage = Up
		a.journal(t, j)
	case Freeze:
		j.Stage = Frozen
		a.journal(t, j)
		h.set(TasksFrozen)
		t.step()
		h.kernel.plugged = false
	case Thaw:
		j.Stage = Thawing
		a.journal(t, j)
		h.set(TasksRunning)
		t.step()
		h.kernel.plugged = true
	case AskAbort, AskCommit:
		want := Abort
		if step.Action == AskCommit {
			want = Commit
		}
		if !a.ask(t, func(_ Registry, o operations) error { return second(o.Decide(bg, pod, r.Migration, want)) }) {
			a.w.unanswered[h.name+r.Migration] = want
		}
	case Restore:
		j.Stage = Restoring
		j.Attempts++
		a.journal(t, j)
		h.restore()
	case Run:
		j.Stage, j.Unshared = Committed, a.w.unshared
		a.journal(t, j)
		h.release(j.Migration)
	case PlugIn:
		if j.Side == Destination {
			j.Stage = PluggedIn
			a.journal(t, j)
			a.w.truth.marked[j.Migration] = true
		}
		h.kernel.plugged = h.kernel.tasks == TasksRunning
	case Settle:
		a.ask(t, func(g Registry, _ operations) error { return second(g.Settle(bg, pod, r.Epoch, here)) })
		a.tell(t, j)
	case Adopt:
		a.journal(t, Journal{Pod: pod, Side: Resident, Stage: Up, Incarnation: j.Incarnation, BootID: here.BootID})
	case DropCopy, KillAndClean:
		h.kill()
		t.step()
		h.onDisk.ran = ""
		a.journal(t, Journal{})
	case HandBack:
		h.kernel.work++ // the hook ends with an error
		h.kernel.busy = false
		h.set(NoTasks)
		if a.w.rules.seen(a.recall()) {
			return
		}
		j.Stage = HandingBack
		a.journal(t, j)
		a.ask(t, func(_ Registry, o operations) error { return second(o.HandBack(bg, pod, j.Migration, here)) })
	case ReportLost:
		a.ask(t, func(g Registry, _ operations) error { return second(g.ReportLost(bg, pod, r.Epoch, here, step.Reason)) })
	case ReportStopped:
		a.ask(t, func(g Registry, _ operations) error { return second(g.ReportStopped(bg, pod, r.Epoch, here)) })
	}
}

// tell lets the source know that it may clean.
func (a *agent) tell(t *thread, j Journal) {
	if j.Side != Destination {
		return
	}
	peer := a.w.host(j.Peer.Host).agent
	call(t, peer.proc, callPatience, func(*thread) bool {
		if peer.h.onDisk.journal.Side == Source && peer.h.onDisk.journal.Migration == j.Migration {
			peer.peerSettled = true
		}
		return true
	})
}

// dump sends the frozen pod to the destination, unless that was done or interrupted.
func (a *agent) dump(t *thread, j Journal) {
	if j.Stage != Frozen || a.interrupted || a.h.kernel.tasks != TasksFrozen {
		return
	}
	done := a.h.kernel.work
	a.h.criu(a.w.between(5, 50), func() {})
	for a.h.kernel.busy {
		t.sleep(5)
	}
	if a.h.kernel.work != done+1 || a.w.chance(a.w.faults.criu) {
		a.interrupted = true
		return
	}
	im := image{migration: j.Migration, memory: a.h.kernel.memory, files: a.h.onDisk.files, source: a.h, boot: a.h.boot, pages: !j.PostCopy}
	ok, _ := call(t, a.w.host(j.Peer.Host).agent.proc, callPatience+100, func(d *thread) bool { return a.w.host(j.Peer.Host).agent.receive(d, im) })
	if !ok {
		a.interrupted = true
		return
	}
	j.Stage = Dumped
	a.journal(t, j)
}

// receive keeps an image whole or not at all.
func (a *agent) receive(t *thread, im image) bool {
	t.sleep(a.w.between(5, 60))
	if !a.lock(t) {
		return false
	}
	defer func() { a.held = false }()
	j := a.recall()
	if j.Side != Destination || j.Migration != im.migration || j.BootID != a.h.bootID() {
		return false
	}
	if j.Stage == Prepared {
		a.h.kernel.image, a.h.onDisk.files = &im, im.files
		j.Stage = Received
		a.journal(t, j)
	}
	return true
}

// prepare begins a host's part of a migration, on a leader's order.
func (a *agent) prepare(t *thread, leader int64, j Journal) bool {
	if !a.lock(t) {
		return false
	}
	defer func() { a.held = false }()
	fence := Fence{seen: a.h.onDisk.fence, save: func(f fenceFile) error { t.step(); a.h.onDisk.fence = f; return nil }}
	have := a.recall()
	switch {
	case fence.Admit(pod, j.Epoch, leader) != nil:
		a.w.logf("%s: refuses leader %d at epoch %d", a.h.name, leader, j.Epoch)
		return false
	case have.Migration == j.Migration:
		return true
	case j.Side == Source && (have.Side != Resident || have.Stage != Up || have.BootID != a.h.bootID() || a.h.kernel.tasks != TasksRunning):
		return false
	case j.Side == Destination && (have.Side != "" || a.h.kernel.tasks != NoTasks || a.h.kernel.busy):
		return false
	}
	j.BootID, j.Incarnation = a.h.bootID(), max(j.Incarnation, have.Incarnation)
	j.Pod, j.Stage = pod, Prepared
	a.interrupted, a.peerSettled, a.heard = false, false, a.w.now
	a.journal(t, j)
	return true
}
