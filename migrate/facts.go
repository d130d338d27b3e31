package migrate

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/migrate/owner"
	"drydock/pods"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

// facts is what owner.Next wants to know, as the kernel and this process show it now. rec is the pod's record on this host,
// nil where there is none.
func (e *Engine) facts(ctx context.Context, pod string, j owner.Journal, rec *pods.Record) (owner.Facts, error) {
	f := owner.Facts{Here: e.Here, Tasks: owner.NoTasks, Peer: owner.PeerUnknown}
	p := e.place(pod)
	f.Interrupted = p.isInterrupted()
	var state pods.State
	if rec != nil {
		var err error
		if state, err = e.Pods.StateOf(ctx, rec); err != nil {
			return f, err
		}
	}
	f.Plugged = state.Plugged
	f.Busy = state.Busy && !state.Sealed
	hooks := e.hooks(j, rec)
	if f.Busy && j.Side == owner.Source && j.PostCopy {
		serving, err := e.serving(pod, j.Migration)
		if err != nil {
			return f, err
		}
		f.Busy = !serving
	}
	switch {
	case state.Processes == 0:
	case hooks.held():
		f.Tasks = owner.TasksHeld
	case state.Frozen:
		f.Tasks = owner.TasksFrozen
	default:
		f.Tasks = owner.TasksRunning
	}
	// CRIU that waits in its hook, or has let the tasks go, touches them no more.
	if f.Tasks == owner.TasksHeld || hooks.letGo() {
		f.Busy = false
	}
	if coming := p.arrival(); rec != nil && coming != nil && coming.restore.waits(rec.Spec) {
		// What is there is CRIU, waiting for the images.
		f.Tasks, f.Busy = owner.NoTasks, false
	}
	if j.Side == owner.Destination {
		e.destinationFacts(j, rec, &f)
		f.Broken = f.Broken || f.Tasks == owner.TasksHeld && !hooks.driven()
		if err := e.halfRestored(j, rec, &f); err != nil {
			return f, err
		}
	}
	if j.Side == owner.Source || j.Side == owner.Destination {
		f.Peer, f.PeerSettled = e.peer(ctx, pod, j)
	}
	if j.Side == owner.Destination && j.Stage == owner.Prepared && (f.Peer == owner.PeerFailed || f.Peer == owner.PeerGone || f.Peer == owner.PeerSilent) {
		f.Interrupted = true // what was prepared here waits for a source that has given up
	}
	return f, nil
}

// destinationFacts adds what is marked in the migration's directory.
func (e *Engine) destinationFacts(j owner.Journal, rec *pods.Record, f *owner.Facts) {
	dir := e.dir(j.Migration)
	_, err := os.Stat(filepath.Join(dir, completeMark))
	f.Complete = err == nil
	if j.PostCopy {
		whole, lost := e.pagesHere(j.Migration, rec)
		f.Complete, f.Broken = f.Complete && whole, lost
	}
	if e.place(j.Pod).arrival() == nil && !f.Complete && !j.PostCopy {
		f.Interrupted = true
	}
}

// halfRestored finds out a pod that can never be made whole here: the CRIU of one of its containers ended before it let the
// tasks go. What it left of them is no pod, and must not be taken for one that runs.
func (e *Engine) halfRestored(j owner.Journal, rec *pods.Record, f *owner.Facts) error {
	if f.Tasks != owner.TasksRunning {
		return nil
	}
	failed := false
	for _, c := range rec.Spec.Containers {
		h := e.hook(j.Migration, c.Name)
		if h.waiting() || h.resumed() {
			continue
		}
		busy, err := e.Pods.Restoring(j.Pod, c.Name)
		if err != nil || busy {
			return err
		}
		if h.working() {
			f.Busy = true // without runc
			return nil
		}
		// CRIU says that the tasks run before it ends, which it may have done since.
		failed = failed || !h.resumed()
	}
	if !failed {
		return nil
	}
	f.Broken, f.Busy = true, false
	if !j.Ran {
		f.Tasks = owner.TasksHeld
	}
	return nil
}

const (
	// completeMark: everything that a restore needs is here.
	completeMark = "complete"
)

func (e *Engine) hook(migration, container string) hook {
	return hook{filepath.Join(e.dir(migration), "hooks", container)}
}

// askPeer is how long an answer of the other side may take.
const askPeer = 2 * time.Second

// askAgain is for how long an answer of the other side holds. It may be out of date as soon as it is given, so nothing that
// is done upon it depends on its age; see docs/decision.md.
const askAgain = time.Second

// ask asks the other side of a pod's migration how it is, if nobody acts on the pod. Whoever acts on it next finds the answer.
func (e *Engine) ask(ctx context.Context, pod string) {
	p := e.place(pod)
	j, err := e.journals.load(pod)
	if err != nil || len(p.busy) > 0 || j.Side != owner.Source && j.Side != owner.Destination {
		return
	}
	peer, settled := e.question(ctx, pod, j)
	p.setAsked(question{migration: j.Migration, at: time.Now(), peer: peer, settled: settled})
}

// peer is how the other side of a migration is, and whether the pod has settled there.
func (e *Engine) peer(ctx context.Context, pod string, j owner.Journal) (owner.Peer, bool) {
	if q, found := e.place(pod).answered(j.Migration); found {
		return q.peer, q.settled
	}
	return e.question(ctx, pod, j)
}

func (e *Engine) question(ctx context.Context, pod string, j owner.Journal) (owner.Peer, bool) {
	p := e.place(pod)
	if coming := p.arrival(); j.Side == owner.Destination && coming != nil && coming.awaited() {
		// The source is on the line, waiting for this side. Asking it would only make it wait longer.
		return owner.PeerWhole, false
	}
	peer, found := e.find(j)
	if !found {
		return p.silence(), false
	}
	ctx, cancel := context.WithTimeout(ctx, askPeer)
	defer cancel()
	answer, err := e.Peers.Receiver(peer).GetState(ctx, connect.NewRequest(&drydockv1.ReceiveStateRequest{Migration: j.Migration, Pod: pod}))
	if err != nil {
		return p.silence(), false
	}
	p.heard()
	switch m := answer.Msg; {
	case m.BootId != j.Peer.BootID:
		return owner.PeerGone, false
	case m.Settled:
		return owner.PeerWhole, true
	case m.Failed || !m.Known:
		return owner.PeerFailed, false
	}
	return owner.PeerWhole, false
}

// find is how to reach the other side of a migration.
func (e *Engine) find(j owner.Journal) (*drydockv1.Peer, bool) {
	if peer, found := e.Peers.Find(j.Peer.Host); found {
		return peer, true
	}
	return &drydockv1.Peer{Name: j.Peer.Host, Address: j.PeerAddress}, j.PeerAddress != ""
}

// State answers the other side's question.
func (e *Engine) State(ctx context.Context, pod, migration string) (*drydockv1.ReceiveStateResponse, error) {
	answer := &drydockv1.ReceiveStateResponse{BootId: e.Here.BootID}
	j, err := e.journals.load(pod)
	if err != nil {
		return nil, err
	}
	answer.Stage = strings.TrimSpace(string(j.Side) + " " + string(j.Stage))
	if j.Migration != migration || j.Side == owner.Resident || j.Side == "" {
		return answer, nil
	}
	answer.Known = true
	if j.BootID != e.Here.BootID {
		answer.Failed = true
	}
	if j.Side == owner.Source {
		// A source that is not in the middle of its steps has given them up, unless everything was sent.
		answer.Failed = answer.Failed || e.running(pod, migration) == nil && (j.Stage == owner.Prepared || j.Stage == owner.Thawing)
		return answer, nil
	}
	coming := e.place(pod).arrival()
	answer.Settled = j.Stage == owner.PluggedIn && coming != nil && coming.isSettled()
	return answer, nil
}
