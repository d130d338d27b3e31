package migrate

import (
	"context"
	"errors"
	"fmt"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/migrate/owner"
	"drydock/pods"

	"connectrpc.com/connect"
)

// maxActions bounds one call of resolve; every action makes progress, so a pod that needs more is not understood.
const maxActions = 32

// resolve does what owner.Next says about a pod until nothing is left to do now, and returns the last thing that it said.
// The caller holds the pod. known, where set, is the record as it was read after the journal and the facts.
func (e *Engine) resolve(ctx context.Context, pod string, known *owner.Record) (owner.Step, error) {
	if err := e.Damage(pod); err != nil {
		return owner.Step{}, err
	}
	for range maxActions {
		j, err := e.journals.load(pod)
		if err != nil {
			return owner.Step{}, err
		}
		if j.Side == owner.Destination {
			j.Attempts = max(j.Attempts, e.place(pod).attempted())
		}
		rec, err := e.Pods.Record(pod)
		if err != nil && !errors.Is(err, pods.ErrNotFound) {
			return owner.Step{}, err
		}
		if j.Ran && j.Stage == owner.Committed && j.BootID == e.Here.BootID && e.hooks(j, rec).neverRan() {
			j.Ran = false
		}
		f, err := e.facts(ctx, pod, j, rec)
		if err != nil {
			return owner.Step{}, err
		}
		view := e.view(ctx, pod, known)
		if old, err := e.outdated(pod, view); err != nil {
			return owner.Step{}, err
		} else if old {
			e.Log.Info("pod: what an earlier pod of this name has left is removed", "pod", pod)
			if err := e.clean(ctx, pod, j); err != nil {
				return owner.Step{}, err
			}
			continue
		}
		next := owner.Next(j, f, view)
		e.Log.Debug("next", "pod", pod, "journal", j.String(), "tasks", f.Tasks, "action", next.Action, "reason", next.Reason)
		switch next.Action {
		case owner.Nothing, owner.Wait, owner.StayFrozen, owner.Freeze:
			// To freeze is the running migration's to do.
			return next, errors.Join(e.finishRelease(ctx, j), e.endOverdue(ctx, j, rec), e.forget(ctx, pod, j, view))
		}
		if e.kept(j, f, view.Record, next) {
			return owner.Step{Action: owner.Nothing, Reason: "the restart policy looks after its containers"}, nil
		}
		if known, err = e.act(ctx, next, j, view.Record); err != nil {
			return next, fmt.Errorf("%s (%s): %w", next.Action, next.Reason, err)
		}
	}
	return owner.Step{}, fmt.Errorf("pod %s: no end after %d actions", pod, maxActions)
}

func (e *Engine) view(ctx context.Context, pod string, known *owner.Record) owner.View {
	if known != nil {
		return owner.View{Known: true, Record: *known}
	}
	return e.Store.Look(ctx, pod)
}

// kept tells that a pod whose tasks ended on the host that owns it is the restart policy's, not lost: no other copy exists,
// and its files are here.
func (e *Engine) kept(j owner.Journal, f owner.Facts, r owner.Record, next owner.Step) bool {
	return next.Action == owner.ReportLost && j.Side == owner.Resident && j.Stage == owner.Up &&
		j.BootID == e.Here.BootID && r.MayRun(e.Here) && f.Tasks == owner.NoTasks
}

// act carries out one action. It returns the record where the action has just learnt it.
func (e *Engine) act(ctx context.Context, next owner.Step, j owner.Journal, r owner.Record) (*owner.Record, error) {
	e.Log.Info("pod: "+string(next.Action), "pod", r.Pod, "reason", next.Reason)
	p := e.place(r.Pod)
	at := func(point string) { e.At(ctx, point) }
	switch next.Action {
	case owner.StartFresh:
		return nil, e.startFresh(ctx, r)
	case owner.Thaw:
		return nil, e.thaw(ctx, j)
	case owner.AskAbort:
		p.becauseOf(next.Reason)
		return learn(e.Store.Decide(ctx, r.Pod, r.Migration, owner.Abort))
	case owner.AskCommit:
		at("destination-before-decide")
		record, err := learn(e.Store.Decide(ctx, r.Pod, j.Migration, owner.Commit))
		if err == nil {
			p.tell(eventRestored)
		}
		at("destination-after-decide")
		return record, err
	case owner.Restore:
		return &r, e.restore(ctx, j)
	case owner.Run:
		return &r, e.release(ctx, j)
	case owner.PlugIn:
		return &r, e.plugIn(ctx, j, r)
	case owner.Settle:
		at(string(j.Side) + "-before-settle")
		if err := e.flush(ctx, j); err != nil {
			return nil, err
		}
		record, err := learn(e.Store.Settle(ctx, r.Pod, r.Epoch, e.Here))
		if err == nil {
			p.settled()
		}
		at(string(j.Side) + "-after-settle")
		return record, err
	case owner.Adopt:
		return nil, e.adopt(ctx, j, r)
	case owner.DropCopy:
		return nil, e.dropCopy(ctx, j)
	case owner.KillAndClean:
		if last(r, e.Here.Host) {
			return nil, e.shelve(ctx, r.Pod, j)
		}
		return nil, e.clean(ctx, r.Pod, j)
	case owner.HandBack:
		return e.handBack(ctx, j)
	case owner.ReportLost:
		_, err := e.Store.ReportLost(ctx, r.Pod, r.Epoch, e.Here, next.Reason)
		return nil, err
	case owner.ReportStopped:
		_, err := e.Store.ReportStopped(ctx, r.Pod, r.Epoch, e.Here)
		return nil, err
	}
	return nil, fmt.Errorf("unknown action %q", next.Action)
}

func learn(r owner.Record, err error) (*owner.Record, error) {
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// startFresh starts a pod from nothing, or from what its volumes hold here.
func (e *Engine) startFresh(ctx context.Context, r owner.Record) error {
	j := owner.Journal{Pod: r.Pod, Side: owner.Resident, Stage: owner.Starting, Incarnation: r.Incarnation, BootID: e.Here.BootID}
	if err := e.Pods.FinishTransform(ctx, r.Pod); err != nil {
		return err
	}
	rec, err := e.Pods.Record(r.Pod)
	if errors.Is(err, pods.ErrNotFound) {
		return fmt.Errorf("%w: the controller has yet to bring its specification", err)
	}
	if err != nil {
		return err
	}
	if err := e.journals.save(j); err != nil {
		return err
	}
	rec.Role, rec.Epoch, rec.Born, rec.Migration, rec.Ended = pods.Owned, r.Epoch, r.Born, "", false
	if err := errors.Join(e.Pods.Kill(ctx, r.Pod), e.Pods.Create(ctx, rec, nil)); err != nil {
		return err
	}
	if err := e.Pods.Start(ctx, r.Pod); err != nil {
		return err
	}
	j.Stage = owner.Up
	e.place(r.Pod).settle()
	return e.journals.save(j)
}

// thaw lets the source's copy go on after an abort.
func (e *Engine) thaw(ctx context.Context, j owner.Journal) error {
	j.Stage = owner.Thawing
	if err := e.journals.save(j); err != nil {
		return err
	}
	if j.PostCopy {
		if err := e.Pods.EndCheckpoint(ctx, j.Pod); err != nil {
			return err
		}
	}
	if err := e.Pods.EndRepair(j.Pod); err != nil {
		return err
	}
	if err := e.Pods.Thaw(ctx, j.Pod); err != nil {
		return err
	}
	e.silencePeer(ctx, j)
	return e.plugBack(ctx, j.Pod)
}

// silencePeer has the destination of an aborted migration drop its copy and stop answering for the pod's address, before the
// pod answers here. Where it cannot be reached, it does so by itself; nothing waits for it.
func (e *Engine) silencePeer(ctx context.Context, j owner.Journal) {
	peer, found := e.find(j)
	if j.Side != owner.Source || !found {
		return
	}
	e.discardAt(ctx, e.Peers.Receiver(peer), j.Pod, j.Migration)
}

// discardAt has a destination drop what it has of a pod, if it answers.
func (e *Engine) discardAt(ctx context.Context, receiver drydockv1connect.ReceiveServiceClient, pod, migration string) {
	ctx, cancel := context.WithTimeout(ctx, askPeer)
	defer cancel()
	_, err := receiver.Discard(ctx, connect.NewRequest(&drydockv1.ReceiveDiscardRequest{Migration: migration, Pod: pod}))
	if err != nil {
		e.Log.Warn("the destination will find out by itself that the migration is over", "pod", pod, "migration", migration, "error", err)
	}
}

// adopt ends the host's part in a migration: it keeps the pod.
func (e *Engine) adopt(ctx context.Context, j owner.Journal, r owner.Record) error {
	if coming := e.place(j.Pod).arrival(); coming != nil && coming.restore != nil {
		// containerd knows of the running tasks when runc has returned.
		if err := e.awaitReturned(j.Pod, coming.restore); err != nil {
			e.Log.Error("the pod runs, but containerd may not know it: if `drydock pod inspect` does not say running, restart the pod", "pod", j.Pod, "error", err)
		}
		coming.close()
		e.place(j.Pod).setArrival(nil)
	}
	if j.Side == owner.Source {
		if state, err := e.Pods.State(ctx, j.Pod); err != nil || state.Busy {
			return errors.Join(err, fmt.Errorf("a dump of pod %s that was given up has not ended yet", j.Pod))
		}
		// An agent that ended before the freeze has left what was to catch the pod's packets.
		if err := e.Pods.SweepNetwork(ctx, j.Pod); err != nil {
			return err
		}
	}
	rec, err := e.Pods.Record(j.Pod)
	if err != nil {
		return err
	}
	rec.Role, rec.Epoch, rec.Born, rec.Migration = pods.Owned, r.Epoch, r.Born, ""
	if err := e.Pods.Save(rec); err != nil {
		return err
	}
	err = e.journals.save(owner.Journal{Pod: j.Pod, Side: owner.Resident, Stage: owner.Up, Incarnation: r.Incarnation, BootID: e.Here.BootID})
	if err != nil {
		return err
	}
	e.place(j.Pod).settle()
	e.At(ctx, "destination-after-adopt")
	return e.removeDir(j.Migration)
}
