package owner

import "fmt"

// resident is for a host that plays no part in a migration: one that runs the pod, is told to, or has leftovers of it.
func (s situation) resident() Step {
	mine := s.r.Owned() && s.r.Owner.Host == s.f.Here.Host
	switch {
	case !mine && s.r.State == Moving && s.r.Destination.Host == s.f.Here.Host && s.r.Migration != "":
		return Step{AskAbort, "this host knows nothing of migration " + s.r.Migration}
	case !mine:
		return s.clean(fmt.Sprintf("the pod is %s, and not this host's", orNone(s.r.State)))
	case s.r.State == Stopping:
		return s.stop()
	case s.r.Owner != s.f.Here || s.booted():
		return s.residentBooted()
	case s.r.State == Moving:
		return s.residentMoving()
	}
	return s.residentOwner()
}

// residentBooted: the boot that was to run the pod is over. Tasks that are here nevertheless belong to nobody.
func (s situation) residentBooted() Step {
	switch {
	case s.f.Tasks != NoTasks:
		return Step{KillAndClean, "the pod was given to another boot of this host"}
	case s.r.State == Moving && s.j.Side == Resident:
		return Step{AskAbort, "this host booted before it froze the pod, so there is no copy"}
	case s.r.State == Moving:
		return Step{Wait, "this host booted, and " + s.r.Destination.Host + " may hold the only copy"}
	}
	return Step{ReportLost, "this host booted: the pod's tasks are gone"}
}

// residentMoving: a migration has begun that this host has not yet been told of, or has not yet joined.
func (s situation) residentMoving() Step {
	if s.f.Tasks == NoTasks && s.j.Side == Resident {
		return Step{AskAbort, "the pod ended before it was frozen"}
	}
	if s.f.Peer == PeerFailed || s.f.Peer == PeerGone || s.f.Peer == PeerSilent || s.f.Interrupted {
		return Step{AskAbort, "migration " + s.r.Migration + " has begun, and nobody drives it"}
	}
	return Step{Nothing, underWay(s.r)}
}

func (s situation) residentOwner() Step {
	same := s.j.Side == Resident && s.j.Incarnation == s.r.Incarnation
	switch {
	case same && s.j.Stage == Up && s.f.Tasks == NoTasks:
		return Step{ReportLost, "the pod's tasks ended"}
	case same && s.j.Stage == Up && !s.f.Plugged:
		return Step{PlugIn, "it runs here"}
	case same && s.j.Stage == Up && !s.r.Settled:
		return Step{Settle, "it runs here"}
	case same && s.j.Stage == Up:
		return Step{Nothing, "it runs here"}
	case !same && s.j.Side == Resident, !same && s.f.Tasks != NoTasks:
		return Step{KillAndClean, "what is left here belongs to an earlier start of the pod"}
	case s.r.Incarnation == s.r.Epoch:
		return Step{StartFresh, s.r.Reason}
	}
	return Step{ReportLost, "the pod moved here, and nothing of it is left"}
}

func orNone(s State) State {
	if s == "" {
		return "not on record"
	}
	return s
}
