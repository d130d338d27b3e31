package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
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

// hostsAtOnce is how many hosts are asked at a time, and more where the pool has more patched at a time.
const hostsAtOnce = 8

// onHosts does a step for each of its hosts at the same time. One that fails is out; the others go on.
func (x *execution) onHosts(ctx context.Context, head *drydockv1.Rollout, s step) error {
	hosts, err := x.hostsOf(ctx, head, s.every)
	if err != nil {
		return err
	}
	why, err := x.whyOn(ctx, head, s)
	if err != nil {
		return err
	}
	slots := make(chan struct{}, max(x.pool.AtOnce.Hosts, hostsAtOnce))
	errs := make([]error, len(hosts))
	var group sync.WaitGroup
	for i, h := range hosts {
		if stepDone(h, s.name) {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			errs[i] = x.onHost(ctx, s, h, why(h))
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// hostsOf are the hosts of the round that take part in it, or all that are left.
func (x *execution) hostsOf(ctx context.Context, head *drydockv1.Rollout, every bool) ([]*drydockv1.RolloutHost, error) {
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return nil, err
	}
	var inRound []string
	if !every {
		round, err := x.round(ctx, head)
		if err != nil {
			return nil, err
		}
		for _, h := range round.GetHosts() {
			inRound = append(inRound, h.GetHost())
		}
	}
	return slices.DeleteFunc(hosts, func(h *drydockv1.RolloutHost) bool {
		if every {
			return h.GetState() != hostPending && h.GetState() != hostRunning
		}
		return h.GetState() != hostRunning || !slices.Contains(inRound, h.GetHost())
	}), nil
}

// round is what is planned for the round that the rollout is in.
func (x *execution) round(ctx context.Context, head *drydockv1.Rollout) (*drydockv1.PlanRound, error) {
	rounds, err := x.allRounds(ctx, x.id)
	if err != nil {
		return nil, err
	}
	if int(head.GetRound()) >= len(rounds) {
		return &drydockv1.PlanRound{}, nil
	}
	return rounds[head.GetRound()], nil
}

func stepDone(h *drydockv1.RolloutHost, name string) bool {
	return slices.ContainsFunc(h.GetSteps(), func(s *drydockv1.RolloutStep) bool {
		return s.GetName() == name && s.GetAttempt() == h.GetAttempt() && s.GetError() == ""
	})
}

// onHost does a step for a host and journals what came of it.
func (x *execution) onHost(ctx context.Context, s step, h *drydockv1.RolloutHost, why string) error {
	h, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		if h.GetStep() != s.name {
			h.Step, h.Deadline = s.name, nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	done := &drydockv1.RolloutStep{Name: s.name, Started: timestamppb.New(x.Now()), Attempt: h.GetAttempt()}
	if s.leave != nil {
		done.Skipped = s.leave(x, h)
	}
	if done.GetSkipped() == "" {
		x.show(h.GetHost(), s.name, 0)
		err = x.recorded(ctx, "rollout "+s.name, "host "+h.GetHost(), why, func() error { return s.each(x, ctx, h) })
		x.show(h.GetHost(), "", 0)
	}
	done.Took = durationpb.New(x.Now().Sub(done.GetStarted().AsTime()))
	var failed *setback
	var left *skipped
	switch {
	case errors.As(err, &left):
		return x.skipHost(ctx, h, left.why)
	case errors.As(err, &failed):
		done.Error = failed.Error()
		return x.failHost(ctx, s, h, done, failed)
	case err != nil:
		return err
	}
	if err := x.Fault(didOn(s, h.GetHost())); err != nil {
		return err
	}
	h, err = x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.Steps = append(h.Steps, done)
		if s.last {
			h.State = hostPatched
		}
		return nil
	})
	if err == nil && s.last {
		err = x.tellPatched(ctx, h)
	}
	return err
}

func (x *execution) tellPatched(ctx context.Context, h *drydockv1.RolloutHost) error {
	head, err := x.head(ctx)
	if err != nil {
		return err
	}
	x.Log.Info("host patched", "rollout", x.id, "host", h.GetHost())
	x.Record(ctx, "patch", "host "+h.GetHost(), x.why(contentsOf(h.GetPatch())), nil)
	x.notify(head, "host-patched", h.GetHost(), fmt.Sprintf("%d packages", len(h.GetPatch().GetPackages())))
	return nil
}

// failHost takes a host out of the rollout. It stays cordoned, and says why; pods that were stopped for it run again where
// that can be.
func (x *execution) failHost(ctx context.Context, s step, h *drydockv1.RolloutHost, done *drydockv1.RolloutStep, failed *setback) error {
	x.Log.Warn("host failed", "rollout", x.id, "host", h.GetHost(), "step", s.name, "error", failed)
	x.Record(ctx, "patch", "host "+h.GetHost(), x.why("step "+s.name), failed)
	problems := slices.Clone(failed.reasons)
	if err := x.startStopped(ctx, h); err != nil {
		problems = append(problems, refusal.Because("pods that were stopped for it do not run again: "+err.Error(), "see `drydock pod ls --host "+h.GetHost()+"`"))
	}
	if err := x.release(ctx, h); err != nil {
		problems = append(problems, refusal.Because("it still keeps others from rebooting it: "+err.Error(), "restart its agent"))
	}
	if err := x.explainCordon(ctx, h.GetHost(), s.name+" failed: "+failed.Error()); err != nil {
		return err
	}
	_, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.State, h.Problems = hostFailed, problems
		if done != nil {
			h.Steps = append(h.Steps, done)
		}
		return nil
	})
	return err
}

func (x *execution) skipHost(ctx context.Context, h *drydockv1.RolloutHost, why *drydockv1.Refusal) error {
	x.Log.Info("host is left out", "rollout", x.id, "host", h.GetHost(), "reason", why.GetReason())
	x.Record(ctx, "patch", "host "+h.GetHost(), x.why("left out"), &skipped{why})
	if err := x.release(ctx, h); err != nil {
		return err
	}
	_, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.State, h.Problems = hostSkipped, []*drydockv1.Refusal{why}
		return nil
	})
	return err
}

// abort ends the rollout. Of hosts that are whole everything is taken back; one that was being patched stays cordoned.
func (x *execution) abort(ctx context.Context) error {
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return err
	}
	var problems []*drydockv1.Refusal
	for _, h := range hosts {
		if !whole(h) {
			if err := x.explainCordon(ctx, h.GetHost(), "rollout aborted while it was being patched"); err != nil {
				return err
			}
			problems = append(problems, refusal.Because(fmt.Sprintf("host %s was being patched (%s) and stays cordoned", h.GetHost(), h.GetStep()),
				"patch the pool again, or look after it and run `drydock host resume "+h.GetHost()+"`"))
			continue
		}
		all := steps()
		slices.Reverse(all)
		for _, s := range all {
			if s.undo == nil {
				continue
			}
			if err := s.undo(x, ctx, h); err != nil {
				problems = append(problems, refusal.Because(fmt.Sprintf("host %s: %s is not taken back: %v", h.GetHost(), s.name, err), "see `drydock host inspect "+h.GetHost()+"`"))
			}
		}
	}
	return x.end(ctx, stateAborted, "aborted", "aborted by an operator", problems)
}

// whole says whether nothing of a patch is half done on a host.
func whole(h *drydockv1.RolloutHost) bool {
	begun := h.GetApplied() || slices.ContainsFunc(h.GetSteps(), func(s *drydockv1.RolloutStep) bool { return s.GetName() == stepPatch && s.GetSkipped() == "" }) || h.GetStep() == stepPatch && len(h.GetPatch().GetPackages()) > 0
	return !begun && h.GetOldBootId() == "" || h.GetVerified()
}
