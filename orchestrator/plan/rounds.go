package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// planner finds the rounds, the next one at a time.
type planner struct {
	*model
	left   []int32
	rounds []Round
	// whys belongs to leaving, entry by entry.
	whys []string
	// inPlace are pods that are stopped now and started again on their own host.
	inPlace []int32
	moved   map[int32]bool
	// begun is the round in which the first host of a failure domain was patched.
	begun map[int32]int
	// waited is the pod that had no place when a host was to be drained.
	waited map[int32]int32
	// kinds of hosts: alike in what they run, and in what they will.
	kind map[int32]string
}

func newPlanner(in *Input, without map[int32]bool) *planner {
	pl := &planner{model: build(in, without), moved: map[int32]bool{}, begun: map[int32]int{}, waited: map[int32]int32{}, kind: map[int32]string{}}
	for i := range pl.hosts {
		if pl.hosts[i].needs {
			h := int32(i)
			pl.left = append(pl.left, h)
			pl.kind[h] = fmt.Sprintf("%d/%d/%t", pl.hosts[i].before, pl.hosts[i].after, pl.hosts[i].drains)
		}
	}
	return pl
}

// run makes rounds until no host is left, or none that is left can be drained.
func (pl *planner) run() bool {
	for len(pl.left) > 0 {
		if !pl.round() {
			return false
		}
	}
	return true
}

// round makes one: canaries at first, then as many hosts as the limits and the room for their pods allow.
func (pl *planner) round() bool {
	if len(pl.rounds) == 0 && pl.in.Policy.Canaries > 0 && pl.attempt(pl.canaries(), "one of the first of its kind") {
		return true
	}
	for _, hosts := range pl.choices() {
		if pl.attempt(hosts, "") {
			return true
		}
	}
	return pl.makingRoom()
}

// order is by what moves least: hosts with few pods, like ones together.
func (pl *planner) order(hosts []int32) {
	slices.SortFunc(hosts, func(a, b int32) int {
		return cmp.Or(cmp.Compare(pl.kind[a], pl.kind[b]), cmp.Compare(len(pl.hosts[a].pods), len(pl.hosts[b].pods)), cmp.Compare(a, b))
	})
}

// canaries are the hosts of each kind that have the fewest pods, as far as they lie in few enough domains.
func (pl *planner) canaries() []int32 {
	hosts := slices.Clone(pl.left)
	pl.order(hosts)
	taken, domains := map[string]int{}, map[int32]bool{}
	var chosen []int32
	for _, h := range hosts {
		domain := pl.hosts[h].domain
		if taken[pl.kind[h]] == pl.in.Policy.Canaries || pl.in.Policy.Domains > 0 && !domains[domain] && len(domains) == pl.in.Policy.Domains {
			continue
		}
		taken[pl.kind[h]]++
		domains[domain] = true
		chosen = append(chosen, h)
	}
	return chosen
}

// choices are sets of hosts that may be patched together, the best first: domains that have been begun are finished before
// others are.
func (pl *planner) choices() [][]int32 {
	byDomain, pods := map[int32][]int32{}, map[int32]int{}
	for _, h := range pl.left {
		d := pl.hosts[h].domain
		byDomain[d] = append(byDomain[d], h)
		pods[d] += len(pl.hosts[h].pods)
	}
	domains := slices.Collect(maps.Keys(byDomain))
	begun := func(d int32) int {
		if _, ok := pl.begun[d]; ok {
			return 0
		}
		return 1
	}
	slices.SortFunc(domains, func(a, b int32) int {
		return cmp.Or(cmp.Compare(begun(a), begun(b)), cmp.Compare(pods[a], pods[b]), cmp.Compare(a, b))
	})
	together := pl.in.Policy.Domains
	if together == 0 {
		together = len(domains)
	}
	var choices [][]int32
	for i := range domains {
		var hosts []int32
		for _, d := range domains[i:min(i+together, len(domains))] {
			pl.order(byDomain[d])
			hosts = append(hosts, byDomain[d]...)
		}
		choices = append(choices, hosts)
		if i+together >= len(domains) {
			break
		}
	}
	return choices
}

// attempt drains as many of the hosts as it can, in order, and makes a round of them. Those that cannot be drained now come later.
func (pl *planner) attempt(hosts []int32, why string) bool {
	limit := pl.in.Policy.Hosts
	queue := slices.Clone(hosts[:min(limit, len(hosts))])
	for _, h := range queue {
		pl.exclude(h)
	}
	next := len(queue)
	receives := map[int32]bool{}
	var drained []int32
	for i := 0; i < len(queue); i++ {
		if h := queue[i]; pl.drain(h, receives) {
			drained = append(drained, h)
			continue
		}
		pl.enter(queue[i]) // others may go there
		for ; next < len(hosts); next++ {
			if !receives[hosts[next]] {
				pl.exclude(hosts[next])
				queue = append(queue, hosts[next])
				next++
				break
			}
		}
	}
	if len(drained) > 0 {
		pl.finish(drained, nil, why)
	}
	return len(drained) > 0
}

// drain gives every pod of a host another one, or none of them.
func (pl *planner) drain(h int32, receives map[int32]bool) bool {
	if !pl.hosts[h].drains {
		return true
	}
	mark, stopped := len(pl.leaving), len(pl.inPlace)
	for _, p := range pl.podsOf(h) {
		to, why := pl.to(p, h)
		switch {
		case to == h:
			pl.inPlace = append(pl.inPlace, p)
		case to >= 0:
			pl.assign(p, to)
			pl.whys = append(pl.whys, why)
		default:
			pl.waited[h] = p
			pl.undo(mark)
			pl.whys, pl.inPlace = pl.whys[:mark], pl.inPlace[:stopped]
			return false
		}
	}
	for _, l := range pl.leaving[mark:] {
		receives[pl.pods[l.pod].host] = true
	}
	return true
}

// to is destination, or the host itself for a pod that is stopped until its host is patched.
func (pl *planner) to(p, h int32) (int32, string) {
	if pl.pods[p].restart && pl.in.Policy.Return == ReturnAlways {
		return h, ""
	}
	to, why := pl.destination(p, h, pl.hosts[h].after)
	if to < 0 && pl.pods[p].restart {
		return h, ""
	}
	return to, why
}

// finish writes the round down, and brings the state to its end: hosts patched, pods returned.
func (pl *planner) finish(hosts []int32, before [][]Move, why string) {
	round := Round{Drain: before}
	var stage []Move
	for i, l := range pl.leaving {
		stage = append(stage, pl.move(l.pod, l.host, pl.pods[l.pod].host, pl.whys[i]))
	}
	if len(stage) > 0 {
		round.Drain = append(round.Drain, stage)
	}
	left := pl.leaving
	pl.leaving, pl.whys = nil, pl.whys[:0]
	for _, l := range left {
		pl.vacate(l.pod, l.host)
		pl.moved[l.pod] = true
	}
	for _, h := range hosts {
		if _, ok := pl.begun[pl.hosts[h].domain]; !ok {
			pl.begun[pl.hosts[h].domain] = len(pl.rounds)
		}
		round.Hosts = append(round.Hosts, pl.step(h, why))
		pl.hosts[h].patched = true
	}
	pl.left = slices.DeleteFunc(pl.left, func(h int32) bool { return pl.hosts[h].patched })
	if back := pl.returns(hosts, left); len(back) > 0 {
		round.Return = append(round.Return, back)
	}
	for _, h := range hosts {
		pl.enter(h)
	}
	pl.rounds = append(pl.rounds, round)
}

// returns are the moves back to hosts that have just been patched.
func (pl *planner) returns(hosts []int32, left []leave) []Move {
	var moves []Move
	for _, p := range pl.inPlace {
		moves = append(moves, Move{Pod: pl.in.Pods[p].Name, From: pl.hostName(pl.pods[p].host), To: pl.hostName(pl.pods[p].host), Why: whyReturn, Restart: true})
	}
	pl.inPlace = pl.inPlace[:0]
	back := func(p, h int32) {
		if from := pl.pods[p].host; from != h && pl.pods[p].moves() && !pl.hosts[from].away && pl.can(pl.stack(from), pl.stack(h)) && pl.fits(p, h) {
			pl.assign(p, h)
			moves = append(moves, pl.move(p, from, h, whyReturn))
		}
	}
	switch pl.in.Policy.Return {
	case ReturnAlways:
		for _, l := range left {
			if pl.pods[l.pod].start == l.host {
				back(l.pod, l.host)
			}
		}
	case ReturnAffinity:
		for _, h := range hosts {
			for _, p := range pl.homes[h] {
				if pl.moved[p] || !pl.hosts[pl.pods[p].host].patched {
					back(p, h)
				}
			}
		}
	}
	pl.endStage()
	return moves
}

func (pl *planner) hostName(h int32) string { return pl.in.Hosts[h].Name }

func (pl *planner) move(p, from, to int32, why string) Move {
	return Move{
		Pod: pl.in.Pods[p].Name, From: pl.hostName(from), To: pl.hostName(to), Why: why,
		Mode: pl.pods[p].mode, Restart: pl.pods[p].restart,
	}
}

func (pl *planner) step(h int32, why string) HostStep {
	if why == "" {
		why = pl.reason(h)
	}
	return HostStep{Host: pl.hostName(h), Why: why, Patch: pl.in.Hosts[h].Patch, Drained: pl.hosts[h].drains, Reboot: pl.hosts[h].reboots}
}

// reason is why a host comes where it does, for an operator.
func (pl *planner) reason(h int32) string {
	domain := pl.in.Hosts[h].Domain
	p, waited := pl.waited[h]
	switch {
	case waited:
		return fmt.Sprintf("waited until pod %s found a place", pl.in.Pods[p].Name)
	case !pl.hosts[h].drains:
		return "nothing has to be moved"
	case pl.in.Policy.Domains > 0 && pl.begun[pl.hosts[h].domain] < len(pl.rounds):
		return "failure domain " + domain + " has been begun"
	case pl.in.Policy.Domains > 0:
		return "failure domain " + domain + " has the fewest pods of those left"
	}
	return "few pods to move"
}
