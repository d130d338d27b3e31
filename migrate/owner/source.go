package owner

import "fmt"

// source is for the host that a pod moves away from. It thaws only what was aborted or handed back, and kills only what
// was committed and will not be handed back.
func (s situation) source() Step {
	switch {
	case s.r.Migration != s.j.Migration:
		return s.sourceSuperseded()
	case s.r.State == Moving:
		return s.sourceUndecided()
	case s.r.State == Stopping && s.r.Owner.Host == s.f.Here.Host:
		return s.stop()
	case s.r.State != Running:
		return s.clean("the pod is " + string(s.r.State))
	case s.r.Outcome == Commit:
		return s.sourceCommitted()
	case s.r.Owner.Host != s.f.Here.Host, !s.booted() && s.r.Owner != s.f.Here, s.r.Outcome == Undecided:
		return s.blind("the owner record and this host's journal contradict each other: ask for help")
	}
	return s.sourceKept()
}

// sourceUndecided: frozen or not, nothing is lost by asking for abort; the store may answer that it was committed.
func (s situation) sourceUndecided() Step {
	peer := s.r.Destination.Host
	if s.booted() || s.r.Source != s.f.Here {
		if s.j.Stage == Prepared || s.f.Peer == PeerGone || s.f.Peer == PeerFailed {
			return Step{AskAbort, fmt.Sprintf("this host booted, and %s holds no copy", peer)}
		}
		return Step{Wait, fmt.Sprintf("this host booted; %s decides", peer)}
	}
	switch {
	case s.f.Tasks == NoTasks && s.j.Stage == Prepared:
		return Step{AskAbort, "the pod ended before it was frozen"}
	case s.f.Interrupted && s.j.Stage != Dumped:
		return Step{AskAbort, "this side was interrupted before everything was sent"}
	case s.f.Peer == PeerFailed || s.f.Peer == PeerGone || s.f.Peer == PeerSilent:
		return Step{AskAbort, fmt.Sprintf("%s is %s", peer, s.f.Peer)}
	case s.j.Stage == Prepared:
		return Step{Freeze, underWay(s.r)}
	}
	return Step{StayFrozen, fmt.Sprintf("%s has not decided yet", peer)}
}

// sourceKept: aborted or handed back. This host owns the pod.
func (s situation) sourceKept() Step {
	switch {
	case s.booted() || s.f.Tasks == NoTasks && !s.f.Busy:
		return Step{ReportLost, fmt.Sprintf("%s, but this host's copy is gone", s.r.Reason)}
	case s.f.Busy:
		return Step{StayFrozen, "CRIU is still at work on the tasks"}
	case s.f.Tasks == TasksFrozen, s.j.Stage == Frozen, s.j.Stage == Dumped, !s.f.Plugged:
		return Step{Thaw, s.r.Reason}
	case !s.r.Settled:
		return Step{Settle, "it runs here again"}
	}
	return Step{Adopt, s.r.Reason}
}

// sourceCommitted: the frozen copy is kept until the destination runs the pod with all of its memory: till then it may
// have to be handed back, and in post-copy its pages are still wanted.
func (s situation) sourceCommitted() Step {
	if !s.r.Settled && !s.f.PeerSettled && !s.booted() && s.f.Tasks == TasksFrozen {
		return Step{StayFrozen, fmt.Sprintf("%s has not yet reported that it runs", s.r.Destination)}
	}
	return Step{KillAndClean, fmt.Sprintf("%s runs it", s.r.Destination)}
}

// sourceSuperseded: the migration of the journal is not the one on record.
func (s situation) sourceSuperseded() Step {
	mine := s.r.MayRun(s.f.Here) && !s.booted() && s.r.Incarnation == s.j.Incarnation
	switch {
	case mine && s.f.Tasks == TasksRunning && s.j.Stage == Prepared && s.r.Epoch == s.j.Epoch && s.r.State == Running && !s.f.Interrupted:
		return Step{Wait, "migration " + s.j.Migration + " has not begun"}
	case mine && s.f.Tasks == TasksRunning && (s.j.Stage == Prepared || s.j.Stage == Thawing):
		return Step{Adopt, "migration " + s.j.Migration + " is over"}
	case mine && s.j.Stage == Prepared:
		return Step{Adopt, "migration " + s.j.Migration + " never began"}
	case s.r.Epoch == s.j.Epoch && s.f.Tasks == TasksFrozen:
		return Step{StayFrozen, "frozen for migration " + s.j.Migration + ", which is not on record: ask for help"}
	}
	// An abort stays on record until this host has thawed and settled, so what is frozen here was committed and followed by
	// something else: it is stale.
	return s.clean("migration " + s.j.Migration + " is over, and this copy is out of date")
}
