// Package plan makes the whole plan of a rollout before anything is touched: which hosts in which order, where every pod goes,
// with which mode and for how long, and what is in the way.
//
// Make is a pure function: the same input gives the same plan. What it promises of a plan without blockers: every host that
// lacks something is patched once; no pod is on a host that is patched under it unless the policy allows it; at no moment does a
// host hold more than it has room for, counting a pod that is moving at both ends; no move puts together what must be kept
// apart; and every move is between two hosts that can hand over as they are at that moment. docs/plan.md says how.
package plan

import "time"

// Input is all that a plan is made from.
type Input struct {
	Policy Policy
	Hosts  []Host
	Pods   []Pod
	// Pair says why a pod cannot be handed over between hosts with these stacks; nil: it can. It is asked once for each pair.
	Pair  func(from, to Stack) *Refusal
	Rates Rates
}

// Refusal is one reason, and what would remove it.
type Refusal struct{ Reason, Remedy string }

// Stack is what decides whether two hosts can hand over to each other.
// Network names hosts between which the network carries pods.
type Stack struct{ Kernel, CRIU, Runtime, Arch, Network string }

// Package is one package of a patch, pinned to the version To.
type Package struct{ Name, From, To string }

// Pin is name=version, as package managers take it.
func (p Package) Pin() string { return p.Name + "=" + p.To }

// Host is a host of the pool.
type Host struct {
	Name string
	// Domain is what it fails together with.
	Domain string
	// CPU is in thousandths of a core, Memory in bytes: what pods may have in all.
	CPU, Memory int64
	// Before is its stack now, After once it is patched and rebooted.
	Before, After Stack
	Patch         []Package
	// RebootRequired says that the patch, or an earlier one, needs a reboot to be in force.
	RebootRequired bool
	// RestartsPods says that processes in pods run what the patch replaces.
	RestartsPods bool
	// Away is why the host takes no part: it is neither patched nor given pods.
	Away *Refusal
}

// Mode is a way to move a pod.
type Mode string

// Modes of a migration.
const (
	Stop     Mode = "stop"
	Precopy  Mode = "precopy"
	Postcopy Mode = "postcopy"
)

// Pod is a pod on one of the hosts.
type Pod struct {
	Name, Host string
	// Home is the host that it has affinity to, if any.
	Home        string
	CPU, Memory int64
	// Used is what of its memory is in use, and is copied when it moves; 0: all of it.
	Used int64
	// FileBytes is what of its files moves with it; DirtyPerSecond is how many bytes of its memory change in a second.
	FileBytes, DirtyPerSecond int64
	// Modes are those that the pod and its host can be moved with.
	Modes []Mode
	// Fixed is why it cannot be moved at all.
	Fixed *Refusal
	Apart []Apart
}

// Apart is a group no two pods of which share a host, or a failure domain.
type Apart struct {
	Group  string
	Domain bool
}

// Return says which pods go back to their host once it is patched.
type Return string

// The values of Return, as in a pool.
const (
	ReturnAffinity Return = "affinity"
	ReturnAlways   Return = "always"
	ReturnNever    Return = "never"
)

// Reboot says when hosts are rebooted.
type Reboot string

// The values of Reboot, as in a pool.
const (
	RebootNever        Reboot = "never"
	RebootWhenRequired Reboot = "when-required"
	RebootAlways       Reboot = "always"
)

// Policy is what of a pool a plan depends on.
type Policy struct {
	Pool string
	// Hosts is how many may be patched at once, Domains how many failure domains they may lie in (0: any number), Canaries how
	// many of each kind make the first wave.
	Hosts, Domains, Canaries int
	Reboot                   Reboot
	// WithoutDrain allows a patch under running pods where neither the host nor a pod has to start again.
	WithoutDrain bool
	// Budget is how long a pod may be silent for a move.
	Budget time.Duration
	Modes  []Mode
	// StopWhatCannotMove stops such a pod and starts it again on a patched host; else it blocks.
	StopWhatCannotMove bool
	Grace              time.Duration
	Return             Return
	// Soak is after each wave, SoakCanaries after the first.
	Soak, SoakCanaries time.Duration
}

// Rates are what forecasts are made with.
type Rates struct {
	// Bandwidth of a host in bytes per second; Parallel is how many of its pods move at a time.
	Bandwidth int64
	Parallel  int
	// Freeze is what a move costs apart from copying, Move the rest of what it takes.
	Freeze, Move time.Duration
	// Package is for each package of a patch, Boot for a reboot, Verify for what is checked before pods come back.
	Package, Boot, Verify time.Duration
}
