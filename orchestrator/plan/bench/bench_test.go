package main

import (
	"reflect"
	"testing"

	"drydock/orchestrator/plan"
)

func small() size { return size{hosts: 200, racks: 10, pods: 2000, full: 0.7, atOnce: 10} }

func TestThePlanIsCloseToTheBounds(t *testing.T) {
	in := instance(small(), 1)
	r, err := measure(in)
	if err != nil {
		t.Fatal(err)
	}
	if r.Moves < r.MovesBound || r.Rounds < r.RoundsBound {
		t.Errorf("below what no plan can be: %+v", r)
	}
	if above(r.Moves, r.MovesBound) > 10 || above(r.Rounds, r.RoundsBound) > 10 {
		t.Errorf("too far above the bounds: %+v", r)
	}
}

func TestTheSameSeedGivesTheSameInstance(t *testing.T) {
	a, b, c := instance(small(), 1), instance(small(), 1), instance(small(), 2)
	if !reflect.DeepEqual(a.Pods, b.Pods) || !reflect.DeepEqual(a.Hosts, b.Hosts) {
		t.Error("two instances")
	}
	if reflect.DeepEqual(a.Pods, c.Pods) {
		t.Error("another seed gave the same pods")
	}
}

func TestAnInstanceIsAsFullAsItIsToBe(t *testing.T) {
	var memory, pods int64
	in := instance(small(), 1)
	for _, h := range in.Hosts {
		memory += h.Memory
	}
	for _, p := range in.Pods {
		pods += p.Memory
	}
	if full := float64(pods) / float64(memory); full < 0.68 || full > 0.72 || len(in.Pods) != 2000 {
		t.Errorf("%d pods, %.3f full", len(in.Pods), full)
	}
	if err := plan.Verify(in, &plan.Plan{Blockers: []plan.Blocker{{}}}); err != nil {
		t.Error(err)
	}
}

func TestTheBoundOfRoundsCountsRacksAndCanaries(t *testing.T) {
	for name, test := range map[string]struct {
		s      size
		rounds int
	}{
		"racks fill rounds":              {size{hosts: 40, racks: 2, pods: 40, full: 0.1, atOnce: 10}, 5},
		"canaries save a round":          {size{hosts: 44, racks: 2, pods: 44, full: 0.1, atOnce: 10}, 6},
		"a rack smaller than the canary": {size{hosts: 4, racks: 2, pods: 4, full: 0.1, atOnce: 2}, 2},
	} {
		if _, rounds := bounds(instance(test.s, 1)); rounds != test.rounds {
			t.Errorf("%s: %d rounds", name, rounds)
		}
	}
}
