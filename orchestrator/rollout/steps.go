package rollout

import (
	"context"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/pool"
)

// step is one step of a rollout. It is done for the rollout as a whole, or for each host at the same time. It may be done
// again: by the next leader, from its beginning.
type step struct {
	name string
	all  func(x *execution, ctx context.Context, head *drydockv1.Rollout) error
	each func(x *execution, ctx context.Context, h *drydockv1.RolloutHost) error
	// every: for every host of the rollout that is left, and not only those of the round.
	every bool
	// leave says why the step is left out for a host.
	leave func(x *execution, h *drydockv1.RolloutHost) string
	// undo takes back what the step did to a host; it may be called where nothing was done.
	undo func(x *execution, ctx context.Context, h *drydockv1.RolloutHost) error
	// last: a host is patched when it is done.
	last bool
	// idle says that the pool has nothing for a step of the rollout as a whole; then it is not recorded.
	idle func(x *execution) bool
}

// Names of steps that more than their own code knows.
const (
	stepStartGates = "start-gates"
	stepDownload   = "download"
	stepAdmit      = "admit"
	stepPatch      = "patch"
	stepReboot     = "reboot"
	stepSoak       = "soak"
	stepHostGates  = "gates"
	stepEndGates   = "end-gates"
)

// rolloutSteps are all, in their order. From admit to gates they are repeated for each round.
func steps() []step {
	return []step{
		{name: "start-hooks", all: (*execution).startHooks, idle: func(x *execution) bool { return len(x.pool.Hooks.Start) == 0 }},
		{name: stepStartGates, all: (*execution).startGates, idle: noGates(pool.AtStart)},
		{name: stepDownload, each: (*execution).download, every: true, leave: noPackages},

		{name: stepAdmit, all: (*execution).admit},
		{name: "occupy", each: (*execution).occupy, undo: (*execution).release},
		{name: "before-hooks", each: (*execution).beforeHooks, leave: noHooksBefore},
		{name: "cordon", each: (*execution).cordonHost, undo: (*execution).uncordon},
		{name: "drain", all: (*execution).drain, undo: (*execution).startStopped},
		{name: stepPatch, each: (*execution).apply, leave: noPackages},
		{name: stepReboot, each: (*execution).reboot, leave: noReboot},
		{name: "verify", each: (*execution).verify},
		{name: "return", all: (*execution).returnPods},
		{name: "uncordon", each: (*execution).open},
		{name: "after-hooks", each: (*execution).afterHooks, leave: noHooksAfter, last: true},
		{name: stepSoak, all: (*execution).soak, idle: func(x *execution) bool { return x.pool.Soak.Host == 0 && x.pool.Soak.Canaries == 0 }},
		{name: stepHostGates, all: (*execution).hostGates, idle: noGates(pool.AtHost)},

		{name: stepEndGates, all: (*execution).endGates, idle: noGates(pool.AtEnd)},
		{name: "end-hooks", all: (*execution).endHooks, idle: func(x *execution) bool { return len(x.pool.Hooks.End) == 0 }},
	}
}

// Points are the names by which Config.Fault is called in a rollout of hosts: when a step begins, when it was done to each host, and
// when it is done.
func Points(hosts ...string) []string {
	var points []string
	for _, s := range steps() {
		points = append(points, beginsAt(s))
		if s.each != nil {
			for _, name := range hosts {
				points = append(points, didOn(s, name))
			}
		}
		points = append(points, didAt(s))
	}
	return points
}

func beginsAt(s step) string           { return "rollout begins " + s.name }
func didAt(s step) string              { return "rollout did " + s.name }
func didOn(s step, host string) string { return didAt(s) + " on " + host }

func stepNamed(name string) (step, bool) {
	all := steps()
	i := slices.IndexFunc(all, func(s step) bool { return s.name == name })
	if i < 0 {
		return step{}, false
	}
	return all[i], true
}

func noPackages(_ *execution, h *drydockv1.RolloutHost) string {
	if len(h.GetPatch().GetPackages()) == 0 {
		return "no package is to be installed"
	}
	return ""
}

func noReboot(_ *execution, h *drydockv1.RolloutHost) string {
	if !h.GetReboot() {
		return "no reboot is needed"
	}
	return ""
}

func noHooksBefore(x *execution, _ *drydockv1.RolloutHost) string {
	if len(x.pool.Hooks.BeforeHost) == 0 {
		return "the pool has none"
	}
	return ""
}

func noHooksAfter(x *execution, _ *drydockv1.RolloutHost) string {
	if len(x.pool.Hooks.AfterHost) == 0 {
		return "the pool has none"
	}
	return ""
}

// noGates says whether no gate is asked at a point.
func noGates(at string) func(*execution) bool {
	return func(x *execution) bool {
		return !slices.ContainsFunc(x.pool.Gates, func(g pool.Gate) bool { return slices.Contains(g.At, at) })
	}
}
