package migrate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/migrate/owner"
	"drydock/pods"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

// facts is what owner.Next wants to know, as the kernel and this process show it now.
func (e *Engine) facts(ctx context.Context, pod string, j owner.Journal) (owner.Facts, error) {
	f := owner.Facts{Here: e.Here, Tasks: owner.NoTasks, Peer: owner.PeerUnknown}
	p := e.place(pod)
	f.Interrupted = p.interrupted
	state, err := e.Pods.State(ctx, pod)
	if err != nil && !errors.Is(err, pods.ErrNotFound) {
		return f, err
	}
	f.Plugged = state.Plugged
	f.Busy = state.Busy && !state.Sealed
	if f.Busy && j.Side == owner.Source && j.PostCopy {
		serving, err := e.serving(pod, j.Migration)
		if err != nil {
			return f, err
		}
		f.Busy = !serving
	}
	switch {
	case state.Processes == 0:
	case j.Side == owner.Destination && e.held(pod, j.Migration):
		f.Tasks = owner.TasksHeld
	case state.Frozen:
		f.Tasks = owner.TasksFrozen
	default:
		f.Tasks = owner.TasksRunning
	}
	// CRIU that waits in its hook, or has let the tasks go, touches them no more.
	if f.Tasks == owner.TasksHeld || j.Side == owner.Destination && e.letGo(pod, j.Migration) {
		f.Busy = false
	}
	if rec, err := e.Pods.Record(pod); err == nil && p.coming != nil && p.coming.restore.waits(rec.Spec) {
		// What is there is CRIU, waiting for the images.
		f.Tasks, f.Busy = owner.NoTasks, false
	}
	if j.Side == owner.Destination {
		e.destinationFacts(pod, j, &f)
		f.Broken = f.Broken || f.Tasks == owner.TasksHeld && !e.driven(pod, j.Migration)
		if err := e.halfRestored(pod, j, &f); err != nil {
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
func (e *Engine) destinationFacts(pod string, j owner.Journal, f *owner.Facts) {
	dir := e.dir(j.Migration)
	_, err := os.Stat(filepath.Join(dir, completeMark))
	f.Complete = err == nil
	if j.PostCopy {
		whole, lost := e.pagesHere(pod, j.Migration)
		f.Complete, f.Broken = f.Complete && whole, lost
	}
	if e.place(pod).coming == nil && !f.Complete && !j.PostCopy {
		f.Interrupted = true
	}
}

// halfRestored finds out a pod that can never be made whole here: the CRIU of one of its containers ended before it let the
// tasks go. What it left of them is no pod, and must not be taken for one that runs.
func (e *Engine) halfRestored(pod string, j owner.Journal, f *owner.Facts) error {
	if f.Tasks != owner.TasksRunning {
		return nil
	}
	rec, err := e.Pods.Record(pod)
	if err != nil {
		return err
	}
	failed := false
	for _, c := range rec.Spec.Containers {
		h := e.hook(j.Migration, c.Name)
		if h.waiting() || h.resumed() {
			continue
		}
		busy, err := e.Pods.Restoring(pod, c.Name)
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

// held tells whether CRIU waits in the hook of every container of the pod.
func (e *Engine) held(pod, migration string) bool {
	rec, err := e.Pods.Record(pod)
	if err != nil {
		return false
	}
	for _, c := range rec.Spec.Containers {
		if !e.hook(migration, c.Name).waiting() {
			return false
		}
	}
	return true
}

// driven tells whether every CRIU that waits in a hook of the pod is one that containerd will hear of.
func (e *Engine) driven(pod, migration string) bool {
	rec, err := e.Pods.Record(pod)
	if err != nil {
		return false
	}
	for _, c := range rec.Spec.Containers {
		if h := e.hook(migration, c.Name); h.waiting() && !h.driven() {
			return false
		}
	}
	return true
}

// neverRan tells whether no CRIU has been let go on in this boot, although the journal, which has to be on disk before, says
// that a task may have run. One that waits in its hook may be let go on a moment later: see endUnrun.
func (e *Engine) neverRan(pod, migration string) bool {
	rec, err := e.Pods.Record(pod)
	if err != nil {
		return false
	}
	for _, c := range rec.Spec.Containers {
		if h := e.hook(migration, c.Name); !exists(h.script()) || h.released() {
			return false
		}
	}
	return true
}

// letGo tells whether CRIU has let every task of the pod run.
func (e *Engine) letGo(pod, migration string) bool {
	rec, err := e.Pods.Record(pod)
	return err == nil && e.resumed(migration, rec.Spec)
}

func (e *Engine) hook(migration, container string) hook {
	return hook{filepath.Join(e.dir(migration), "hooks", container)}
}

// askPeer is how long an answer of the other side may take.
const askPeer = 2 * time.Second

// peer asks the other side of a migration how it is.
func (e *Engine) peer(ctx context.Context, pod string, j owner.Journal) (owner.Peer, bool) {
	p := e.place(pod)
	if c := p.coming; j.Side == owner.Destination && c != nil && c.source != nil && c.source.Err() == nil {
		// The source is on the line, waiting for this side. Asking it would only make it wait longer.
		return owner.PeerWhole, false
	}
	peer, found := e.find(j)
	if !found {
		return e.silence(p), false
	}
	ctx, cancel := context.WithTimeout(ctx, askPeer)
	defer cancel()
	answer, err := e.Peers.Receiver(peer).GetState(ctx, connect.NewRequest(&drydockv1.ReceiveStateRequest{Migration: j.Migration, Pod: pod}))
	if err != nil {
		return e.silence(p), false
	}
	p.peerHeard = time.Now()
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

func (e *Engine) silence(p *place) owner.Peer {
	if time.Since(p.peerHeard) > patience {
		return owner.PeerSilent
	}
	return owner.PeerUnknown
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
	p := e.place(pod)
	if j.Side == owner.Source {
		// A source that is not in the middle of its steps has given them up, unless everything was sent.
		answer.Failed = answer.Failed || e.running(pod, migration) == nil && (j.Stage == owner.Prepared || j.Stage == owner.Thawing)
		return answer, nil
	}
	answer.Settled = j.Stage == owner.PluggedIn && p.coming != nil && p.coming.settled
	return answer, nil
}
