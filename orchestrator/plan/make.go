package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Make makes the plan. The error is for input that contradicts itself; what keeps hosts from being patched is in the plan.
func Make(in Input) (*Plan, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	plan := &Plan{Pool: in.Policy.Pool}
	fixed := in.fixed(plan)
	result := solve(&in, fixed)
	switch {
	case result.rounds == nil && len(result.stuck) > 0:
		in.block(plan, result, fixed)
	case len(plan.Blockers) == 0:
		plan.Rounds, plan.Exhaustive = result.rounds, result.exhaustive
		in.forecast(plan)
	}
	plan.count()
	return plan, nil
}

func (p *Plan) count() {
	for _, r := range p.Rounds {
		for _, stages := range [][][]Move{r.Drain, r.Return} {
			for _, stage := range stages {
				for _, m := range stage {
					if m.Restart {
						p.Restarts++
					} else {
						p.Moves++
					}
				}
			}
		}
	}
}

func (in *Input) check() error {
	var err error
	if in.Policy.Hosts < 1 {
		err = errors.Join(err, fmt.Errorf("plan of %s: %d hosts at once", in.Policy.Pool, in.Policy.Hosts))
	}
	if in.Pair == nil {
		err = errors.Join(err, fmt.Errorf("plan of %s: nothing tells which hosts can hand over", in.Policy.Pool))
	}
	hosts, pods := make(map[string]bool, len(in.Hosts)), make(map[string]bool, len(in.Pods))
	for _, h := range in.Hosts {
		if hosts[h.Name] {
			err = errors.Join(err, fmt.Errorf("plan of %s: host %s occurs twice", in.Policy.Pool, h.Name))
		}
		hosts[h.Name] = true
	}
	for _, p := range in.Pods {
		if pods[p.Name] {
			err = errors.Join(err, fmt.Errorf("plan of %s: pod %s occurs twice", in.Policy.Pool, p.Name))
		}
		if pods[p.Name] = true; !hosts[p.Host] {
			err = errors.Join(err, fmt.Errorf("plan of %s: pod %s is on host %q, which is not in the pool", in.Policy.Pool, p.Name, p.Host))
		}
	}
	return err
}

// fixed tells of hosts that are left out, and of pods that cannot leave hosts that must be drained; it returns the latter.
func (in *Input) fixed(plan *Plan) map[int32]bool {
	drains := map[string]bool{}
	for _, h := range in.Hosts {
		x := newHost(h, in.Policy)
		switch {
		case h.Away != nil:
			plan.Skipped = append(plan.Skipped, Blocker{Host: h.Name, Refusal: *h.Away})
		case !x.needs:
			plan.Current = append(plan.Current, h.Name)
		}
		drains[h.Name] = x.drains
	}
	fixed := map[int32]bool{}
	for i, p := range in.Pods {
		if !drains[p.Host] || in.Policy.StopWhatCannotMove || in.mode(p) != "" {
			continue
		}
		fixed[int32(i)] = true
		why := Refusal{"no mode that is allowed moves it within the downtime budget of " + in.Policy.Budget.String(),
			"allow more in `pods.modes` or `pods.downtime-budget`, or write `pods.cannot-move: stop`"}
		if p.Fixed != nil {
			why = *p.Fixed
		}
		plan.Blockers = append(plan.Blockers, Blocker{Host: p.Host, Pod: p.Name, Refusal: why})
	}
	plan.Proven, plan.Minimal = len(fixed) > 0, len(fixed) > 0
	return fixed
}

// solution is what was found for a pool without some of its pods.
type solution struct {
	rounds []Round
	// stuck are pods that find no place.
	stuck      []int32
	exhaustive bool
}

// solve looks for an order the quick way, and where that finds none and the pool is small, among all orders.
func solve(in *Input, without map[int32]bool) solution {
	pl := newPlanner(in, without)
	if pl.run() {
		return solution{rounds: pl.rounds}
	}
	all := newPlanner(in, without)
	found, decided := all.exhaust()
	if found {
		return solution{rounds: all.rounds, exhaustive: true}
	}
	return solution{stuck: pl.stuck(), exhaustive: decided}
}

// stuck are the pods of hosts that are left which find no place when the others of their host have taken theirs.
func (pl *planner) stuck() []int32 {
	var pods []int32
	for _, h := range pl.left {
		pl.exclude(h)
		for _, p := range pl.podsOf(h) {
			if to, _ := pl.to(p, h); to < 0 {
				pods = append(pods, p)
			} else if to != h {
				pl.assign(p, to)
			}
		}
		pl.undo(0)
		pl.enter(h)
	}
	for _, h := range pl.left {
		if len(pods) == 0 {
			pods = pl.podsOf(h)
		}
	}
	return pods
}

// enough bounds the work that goes into making the list of pods short: pods times attempts.
const enough = 2_000_000

// block names the pods that make it impossible: without them there is an order, and none with any of them.
func (in *Input) block(plan *Plan, first solution, fixed map[int32]bool) {
	without := map[int32]bool{}
	for p := range fixed {
		without[p] = true
	}
	var removed []int32
	for result := first; len(result.stuck) > 0; result = solve(in, without) {
		for _, p := range result.stuck {
			without[p] = true
			removed = append(removed, p)
		}
	}
	// The small ones go back first, so that few and large ones are named.
	slices.SortFunc(removed, func(a, b int32) int {
		return cmp.Or(cmp.Compare(in.Pods[a].Memory, in.Pods[b].Memory), cmp.Compare(in.Pods[a].CPU, in.Pods[b].CPU), cmp.Compare(a, b))
	})
	minimal := len(removed)*len(in.Pods) <= enough
	var named []int32
	for _, p := range removed {
		if minimal {
			delete(without, p)
			if len(solve(in, without).stuck) == 0 {
				continue
			}
			without[p] = true
		}
		named = append(named, p)
	}
	plan.Minimal, plan.Proven = minimal, first.exhaustive || len(fixed) > 0
	slices.Sort(named)
	for _, p := range named {
		why, certain := in.explain(in.Pods[p])
		plan.Blockers = append(plan.Blockers, Blocker{Host: in.Pods[p].Host, Pod: in.Pods[p].Name, Refusal: why})
		plan.Proven = plan.Proven || certain
	}
}

// explain says why a pod finds no place, going through all hosts as they are now and as they will be; certain is set where it
// could not even if it were the only pod.
func (in *Input) explain(p Pod) (why Refusal, certain bool) {
	var small, unable, others int
	var cannot *Refusal
	source := in.Hosts[slices.IndexFunc(in.Hosts, func(h Host) bool { return h.Name == p.Host })]
	for _, h := range in.Hosts {
		if h.Name == p.Host || h.Away != nil {
			continue
		}
		others++
		now, later := in.Pair(source.Before, h.Before), in.Pair(source.Before, afterOf(h, newHost(h, in.Policy).reboots))
		switch {
		case h.CPU < p.CPU || h.Memory < p.Memory:
			small++
		case now != nil && later != nil:
			unable++
			cannot = later
		}
	}
	needs := fmt.Sprintf("%d MiB of memory and %.1f cores", p.Memory>>20, float64(p.CPU)/1000)
	switch {
	case others == 0:
		return Refusal{"there is no other host that it could go to", "add a host to the pool"}, true
	case small == others:
		return Refusal{"it needs " + needs + ", and no other host is that large", "add a larger host, or let the pod ask for less"}, true
	case small+unable == others:
		return Refusal{"no other host that is large enough can take it over: " + cannot.Reason, cannot.Remedy}, true
	}
	return Refusal{"it needs " + needs + ", and no order of the hosts leaves that free where it may go",
		"stop it for the time, add a host, or loosen `pods.apart`"}, false
}
