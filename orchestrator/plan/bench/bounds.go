package main

import (
	"cmp"
	"slices"

	"drydock/orchestrator/plan"
)

// bounds are what no plan can be below: see docs/plan.md.
//
// Moves: every pod on a host that is drained leaves it at least once. And while no host is patched, the pods of the first round
// have nowhere to stay: their new hosts are drained too, so they move once more. Those are at least the pods of the emptiest host.
//
// Rounds: a round has at most so many hosts, all in one rack, so a rack takes its hosts divided by that, rounded up. Canaries have
// the first round to themselves.
func bounds(in plan.Input) (moves, rounds int) {
	pods, racks := map[string]int{}, map[string]int{}
	for _, p := range in.Pods {
		pods[p.Host]++
	}
	kinds := map[[2]plan.Stack]bool{}
	for _, h := range in.Hosts {
		moves += pods[h.Name]
		racks[h.Domain]++
		kinds[[2]plan.Stack{h.Before, h.After}] = true
	}
	emptiest := slices.MinFunc(in.Hosts, func(a, b plan.Host) int { return cmp.Compare(pods[a.Name], pods[b.Name]) })
	moves += pods[emptiest.Name]
	// The canaries of all kinds may lie in one rack, whose other hosts then take as many rounds as they would without.
	least := 0
	for _, hosts := range racks {
		all := (hosts + in.Policy.Hosts - 1) / in.Policy.Hosts
		rest := hosts - in.Policy.Canaries*len(kinds)
		saved := all - (max(rest, 0)+in.Policy.Hosts-1)/in.Policy.Hosts
		rounds += all
		least = max(least, saved)
	}
	if in.Policy.Canaries > 0 {
		rounds += 1 - least
	}
	return moves, rounds
}
