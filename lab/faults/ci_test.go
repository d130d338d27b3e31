//go:build faults

package faults

import (
	"slices"
	"strings"
	"testing"
)

func TestTheRunOfCITakesALeaderAwayInEachWayOnce(t *testing.T) {
	var ways []string
	for _, c := range leaderFaults() {
		if _, way, _ := strings.Cut(c.name, "/"); c.ci {
			ways = append(ways, way)
		}
	}
	want := []string{"crash the leading controller's host", "pause the leading controller"}
	if slices.Sort(ways); !slices.Equal(ways, want) {
		t.Errorf("%v", ways)
	}
}

func TestTheRunOfCIHasOneKillForEachStepAndEachLinkFaultOnce(t *testing.T) {
	var kills, links []string
	for _, c := range cases() {
		_, what, _ := strings.Cut(strings.TrimPrefix(c.name, "stop/"), "/")
		point, _, _ := strings.Cut(strings.TrimPrefix(c.name, "stop/"), "/")
		switch {
		case !c.ci:
		case !strings.HasPrefix(c.name, "stop/"):
			t.Errorf("%s is of another mode", c.name)
		case strings.HasPrefix(what, "kill "):
			kills = append(kills, strings.TrimPrefix(point, "source-after-"))
		case strings.Contains(what, " link between "):
			links = append(links, what)
		default:
			t.Errorf("%s is neither", c.name)
		}
	}
	if !slices.Equal(kills, steps()) {
		t.Errorf("kills at %v, the steps are %v", kills, steps())
	}
	const kinds, pairs = 4, 3
	if slices.Sort(links); len(slices.Compact(links)) != kinds*pairs || len(links) != kinds*pairs {
		t.Errorf("%d link faults: %v", len(links), links)
	}
}
