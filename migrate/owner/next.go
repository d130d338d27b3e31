package owner

// Tasks is what the kernel shows of the pod on this host, now.
type Tasks string

const (
	// NoTasks: none is left, not even a frozen one or one that CRIU is making.
	NoTasks Tasks = "none"
	// TasksFrozen: every task is there and its cgroup reads FROZEN.
	TasksFrozen Tasks = "frozen"
	// TasksHeld: CRIU has rebuilt every task of every container, and waits in its post-restore hooks; none has run.
	// Also when Broken, if some wait so and none has run.
	TasksHeld Tasks = "held"
	// TasksRunning: at least one task can run. Also when it cannot be told.
	TasksRunning Tasks = "running"
)

// Peer is what is known of the other host of the migration.
type Peer string

const (
	// PeerUnknown: not asked, or no answer yet.
	PeerUnknown Peer = "unknown"
	// PeerWhole: it answers and still has its part: a source is frozen and whole, a destination goes on with the migration.
	PeerWhole Peer = "whole"
	// PeerFailed: it answers, and says that it gave up or knows nothing of the migration.
	PeerFailed Peer = "failed"
	// PeerSilent: it has not answered for longer than the migration's patience.
	PeerSilent Peer = "silent"
	// PeerGone: what it had is gone for certain: it answered from another boot than the migration knows, was fenced, or
	// was confirmed dead.
	PeerGone Peer = "gone"
)

// Facts is what an agent sees when it asks for its next action.
type Facts struct {
	// Here is this host in its present boot.
	Here  Place
	Tasks Tasks
	// Plugged: the pod's interface is joined to the host's network.
	Plugged bool
	// Busy: CRIU is at work on the tasks here (a dump, a restore before or after its hook), or its outcome is not known.
	Busy bool
	// Interrupted: this side cannot go on by itself: a step failed, or the agent was restarted in the middle of one.
	Interrupted bool
	// Complete: this host holds, in memory or in the restored tasks, every page and file of the frozen pod.
	Complete bool
	// Broken: the restored tasks can never be made whole: the restore of one container failed and another's did not, or
	// post-copy can never bring the missing pages because the lazy-pages daemon ended.
	Broken bool
	Peer   Peer
	// PeerSettled: the other host said that the pod runs there, plugged in and with all of its memory.
	PeerSettled bool
}

// View is the record as it was just read; not Known when the store did not answer. A Known view with Revision zero means
// that there is no record.
type View struct {
	Known  bool
	Record Record
}

// Action is the one thing to do next. Each may be repeated, and each is journalled as its comment says.
type Action string

const (
	// Nothing: all is as it should be.
	Nothing Action = "nothing"
	// Wait: change nothing, run nothing, keep everything that is held, look again later.
	Wait Action = "wait"
	// StayFrozen: Wait, on a source that is frozen and unplugged.
	StayFrozen Action = "stay frozen"
	// StartFresh: journal Starting with the record's incarnation, clean up, start from nothing, plug in, journal Up.
	StartFresh Action = "start fresh"
	// Freeze: journal Frozen, then pause the cgroups and unplug the network.
	Freeze Action = "freeze"
	// Thaw: journal Thawing, then thaw and plug in.
	Thaw Action = "thaw"
	// AskAbort: call Decide with Abort, then look again: it may answer commit.
	AskAbort Action = "ask for abort"
	// AskCommit: call Decide with Commit, then look again: it may answer abort.
	AskCommit Action = "ask for commit"
	// Restore: journal Restoring with one more attempt, kill what an earlier one left, then restore from the images.
	Restore Action = "restore"
	// Run: journal Committed, then release the hook. Journal Ran durably before a task can run.
	Run Action = "run"
	// PlugIn: a destination journals PluggedIn first; then let the network through and tell the neighbours.
	PlugIn Action = "plug in"
	// Settle: call Registry.Settle at the record's epoch and tell the peer.
	Settle Action = "settle"
	// Adopt: journal Resident, Up: the migration is over here.
	Adopt Action = "adopt"
	// DropCopy: release the hook with an error, kill what CRIU made, remove what was received, then remove the journal.
	DropCopy Action = "drop copy"
	// KillAndClean: SIGKILL to every task, then thaw, still unplugged; remove everything, then remove the journal.
	KillAndClean Action = "kill and clean"
	// HandBack: release the hook with an error if it waits, make sure that no task is left and, after that, that none ran or
	// nobody saw it; journal HandingBack, then call Registry.HandBack.
	HandBack Action = "hand back"
	// ReportLost: call Registry.ReportLost at the record's epoch. Never start the pod again under this epoch.
	ReportLost Action = "report lost"
	// ReportStopped: call Registry.ReportStopped at the record's epoch.
	ReportStopped Action = "report stopped"
	// TakeOver (controllers): call Registry.Takeover.
	TakeOver Action = "take over"
	// Restart (controllers): the pod's restart policy applies: call Registry.Start where it says, or wait.
	Restart Action = "restart"
)

// Step is an action with its reason, for the operator.
type Step struct {
	Action Action
	Reason string
}

// maxAttempts is how often a destination that may hold the only complete copy restores it before it gives up.
const maxAttempts = 3

// Next says what a host does next about a pod. j is its journal, f what it sees now, v the record as it was just read:
// read it after j and f were taken, and do nothing else about the pod between that and the action.
func Next(j Journal, f Facts, v View) Step {
	s := situation{j, f, v.Record}
	switch {
	case !v.Known:
		return s.blind("the owner record cannot be read")
	case v.Record.Revision == 0 && (j.Side != "" || f.Tasks != NoTasks):
		return s.blind("there is no owner record of the pod")
	case v.Record.Epoch < max(j.Epoch, j.Incarnation):
		return s.blind("the owner record is older than this host's journal: was the store restored from a backup?")
	case j.Side == Source:
		return s.source()
	case j.Side == Destination:
		return s.destination()
	}
	return s.resident()
}

// situation is all that a rule may look at.
type situation struct {
	j Journal
	f Facts
	r Record
}

// blind is what a host does that cannot read the record, or not trust it: what runs runs on, what is held stays held.
func (s situation) blind(reason string) Step {
	switch s.f.Tasks {
	case TasksFrozen:
		return Step{StayFrozen, reason}
	case TasksRunning:
		return Step{Nothing, reason + "; what runs here runs on"}
	}
	return Step{Wait, reason}
}

// booted: what the journal is about went with an earlier boot of this host.
func (s situation) booted() bool { return s.j.Side != "" && s.j.BootID != s.f.Here.BootID }

// clean ends this host's part: it holds nothing that may ever be needed.
func (s situation) clean(reason string) Step {
	switch {
	case s.j.Side == Destination && !s.j.Seen() && s.f.Tasks != TasksRunning:
		return Step{DropCopy, reason}
	case s.j.Side != "" || s.f.Tasks != NoTasks:
		return Step{KillAndClean, reason}
	}
	return Step{Nothing, reason}
}

// stop carries out Stopping on the owner.
func (s situation) stop() Step {
	if s.f.Tasks != NoTasks || s.f.Busy || s.j.Side == Destination || s.j.Side == Source {
		return s.clean("stop was asked for")
	}
	return Step{ReportStopped, "no task is left here"}
}
