package owner

import "fmt"

// destination is for the host that a pod moves to. It runs only what was committed, and gives back only what never ran, or
// what nobody saw running.
func (s situation) destination() Step {
	switch {
	case s.r.Migration != s.j.Migration:
		return s.destinationSuperseded()
	case s.r.State == Moving:
		return s.destinationUndecided()
	case s.r.State == Stopping && s.r.Owner.Host == s.f.Here.Host:
		return s.stop()
	case s.r.State != Running || s.r.Outcome != Commit:
		return s.clean(s.r.Reason)
	case s.booted() || s.r.Owner != s.f.Here:
		return s.destinationBooted()
	}
	return s.destinationCommitted()
}

// destinationUndecided: what holds every task rebuilt asks for commit; what cannot get there asks for abort, unless it may
// hold the only complete copy.
func (s situation) destinationUndecided() Step {
	src := s.r.Source.Host
	restorable := s.f.Complete || s.j.PostCopy && s.j.Stage != Prepared
	switch {
	case s.booted() || s.r.Destination != s.f.Here:
		return Step{AskAbort, "this host booted: its copy is gone"}
	case s.j.PostCopy && (s.f.Broken || s.f.Peer == PeerGone || s.f.Peer == PeerFailed || s.f.Peer == PeerSilent):
		return Step{AskAbort, fmt.Sprintf("the pages are on %s, and cannot be had from it (%s)", src, s.f.Peer)}
	case s.f.Tasks == TasksHeld && !s.f.Broken:
		return Step{AskCommit, "every task is rebuilt"}
	case s.f.Busy:
		return Step{Wait, "CRIU is at work"}
	case !restorable && (s.f.Interrupted || s.f.Peer == PeerFailed || s.f.Peer == PeerGone || s.f.Peer == PeerSilent):
		return Step{AskAbort, "this host has no complete copy and cannot get one"}
	case !restorable:
		return Step{Wait, "receiving"}
	case s.j.Attempts == 0:
		return Step{Restore, "everything is here"}
	case s.f.Peer == PeerWhole, s.j.PostCopy, s.j.Attempts >= maxAttempts:
		return Step{AskAbort, fmt.Sprintf("the restore failed (attempt %d)", s.j.Attempts)}
	}
	return Step{Restore, fmt.Sprintf("the restore failed, and it is not certain that %s still has the pod", src)}
}

// destinationBooted: committed to a boot of this host that is over. The journal tells whether the pod ever ran here.
func (s situation) destinationBooted() Step {
	switch {
	case s.f.Tasks != NoTasks:
		return Step{KillAndClean, "the pod was given to another boot of this host"}
	case s.j.Seen():
		return Step{ReportLost, "this host booted after the pod may have run here"}
	case s.f.Peer == PeerGone:
		return Step{ReportLost, fmt.Sprintf("this host booted before the pod ran, and %s is gone too", s.r.Source)}
	}
	return Step{HandBack, "this host booted before anybody saw the pod run"}
}

func (s situation) destinationCommitted() Step {
	ran := s.j.Ran || s.f.Tasks == TasksRunning || s.j.Stage == PluggedIn
	seen := s.j.Seen() || ran && !s.j.Unshared
	switch {
	case s.f.Tasks != NoTasks && s.j.PostCopy && !s.f.Complete && (s.f.Peer == PeerGone || s.f.Peer == PeerFailed):
		return Step{KillAndClean, fmt.Sprintf("pages that had not arrived are gone from %s", s.r.Source)}
	case s.f.Tasks != NoTasks && seen && (s.f.Broken || s.j.Stage == HandingBack):
		return Step{KillAndClean, "it cannot be made whole"}
	case s.j.Stage == HandingBack && !seen:
		return Step{HandBack, "nobody saw it run here"}
	case s.f.Tasks != NoTasks && ran && s.f.Broken:
		return s.destinationUnseen("it cannot be made whole here")
	case s.f.Tasks == TasksHeld && s.f.Broken:
		return s.destinationFailed()
	case s.f.Tasks == TasksHeld:
		return Step{Run, s.r.Reason}
	case s.f.Tasks == TasksRunning:
		return s.destinationRunning()
	case s.f.Busy || s.f.Tasks != NoTasks:
		return Step{Wait, "CRIU is at work"}
	case seen:
		return Step{ReportLost, "the pod's tasks ended after they may have run here"}
	case ran:
		return s.destinationUnseen("the pod's tasks ended")
	}
	return s.destinationFailed()
}

// destinationUnseen: tasks may have run, and nobody outside saw it. The source gets the pod back, if it may still have it.
// Nothing is restored again here: tasks that ran may have changed files.
func (s situation) destinationUnseen(why string) Step {
	switch {
	case s.f.Peer != PeerGone:
		return Step{HandBack, fmt.Sprintf("%s before anybody saw it run, and %s has it", why, s.r.Source)}
	case s.f.Tasks != NoTasks:
		return Step{KillAndClean, fmt.Sprintf("%s, and %s is gone", why, s.r.Source)}
	}
	return Step{ReportLost, fmt.Sprintf("%s, and %s is gone", why, s.r.Source)}
}

// destinationRunning: post-copy settles only when every page is here, for the source's copy goes then.
func (s situation) destinationRunning() Step {
	switch {
	case s.j.Stage != PluggedIn && s.f.Busy:
		return Step{Wait, "CRIU is at work"}
	case s.j.Stage != PluggedIn || !s.f.Plugged:
		return Step{PlugIn, s.r.Reason}
	case s.r.Settled:
		return Step{Adopt, s.r.Reason}
	case s.j.PostCopy && !s.f.Complete:
		return Step{Nothing, fmt.Sprintf("pages are still arriving from %s", s.r.Source)}
	}
	return Step{Settle, "it runs here"}
}

// destinationFailed: CRIU failed after the commit, and no task ever ran. If the source is certain to be whole
// it gets the pod back; if not, the copy here is used first.
func (s situation) destinationFailed() Step {
	again := s.f.Complete && s.j.Attempts < maxAttempts
	switch {
	case s.f.Peer == PeerWhole:
		return Step{HandBack, fmt.Sprintf("CRIU failed after the commit, and %s is whole", s.r.Source)}
	case again:
		return Step{Restore, fmt.Sprintf("CRIU failed after the commit, and it is not certain that %s still has the pod", s.r.Source)}
	case s.f.Peer == PeerGone:
		return Step{ReportLost, fmt.Sprintf("CRIU failed after the commit, and %s is gone", s.r.Source)}
	}
	return Step{HandBack, "CRIU failed after the commit"}
}

// destinationSuperseded: the migration of the journal is not the one on record.
func (s situation) destinationSuperseded() Step {
	mine := s.r.MayRun(s.f.Here) && !s.booted() && s.r.Incarnation == s.j.Incarnation
	switch {
	case mine && s.j.Stage == PluggedIn && s.f.Tasks == TasksRunning:
		return Step{Adopt, "migration " + s.j.Migration + " is over"}
	case s.r.Epoch == s.j.Epoch && s.r.State == Running && !s.f.Interrupted && s.f.Tasks == NoTasks && !s.booted():
		return Step{Wait, "migration " + s.j.Migration + " has not begun"}
	}
	return s.clean("migration " + s.j.Migration + " is over")
}
