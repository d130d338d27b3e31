//go:build faults

package faults

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// mode is a way to move with the points that only it has.
type mode struct {
	name   string
	mode   drydockv1.MigrationMode
	points []string
}

// modes that this kernel allows.
func modes() []mode {
	return []mode{{"stop", stop, nil}, {"postcopy", postcopy, nil}}
}

// steps of a migration in a mode, as its source names them.
func steps() []string {
	return []string{"check", "prepare", "sync", "freeze", "dump", "restore", "decide", "plug-in", "clean"}
}

// agentPoints are all at which an agent can be stopped, in the order in which a migration comes by.
func agentPoints() []string {
	var all []string
	for _, step := range steps() {
		all = append(all, "source-before-"+step)
		switch step {
		case "prepare":
			all = append(all, "destination-before-prepare", "destination-after-prepare")
		case "freeze":
			all = append(all, "source-in-freeze")
		case "dump":
			all = append(all, "destination-before-hold", "destination-after-hold")
		case "restore":
			all = append(all, "destination-complete", "destination-before-restore", "destination-after-restore")
		case "decide":
			all = append(all, "destination-before-decide", "destination-after-decide", "destination-in-run")
		case "plug-in":
			all = append(all, "destination-before-plug-in", "destination-after-plug-in", "destination-before-settle", "destination-after-settle")
		}
		all = append(all, "source-after-"+step)
	}
	return all
}

func cases() []fault {
	var all []fault
	for _, m := range modes() {
		for _, group := range []func(mode) []fault{kills, criu, containerd, hosts, links, storeAway, damage, fullMemory, fullDisk, pages, halves, unseen, hangs} {
			all = append(all, group(m)...)
		}
	}
	// Those of each of the two pods come together: a pod has a lab of its own.
	slices.SortStableFunc(all, func(a, b fault) int { return cmp.Compare(labs(a), labs(b)) })
	return all
}

func labs(f fault) int {
	if f.unshared {
		return 1
	}
	return 0
}

// kills takes each of the three programs away at every point.
func kills(m mode) []fault {
	victims := []struct{ name, side, service string }{
		{"the source's agent", source, "agent"},
		{"the destination's agent", destination, "agent"},
		{"the controller", controller, "controller"},
	}
	var all []fault
	for _, p := range append(agentPoints(), m.points...) {
		step := slices.Index(steps(), strings.TrimPrefix(p, "source-after-"))
		for n, v := range victims {
			all = append(all, fault{
				name:    fmt.Sprintf("%s/%s/kill %s", m.name, p, v.name),
				mode:    m.mode,
				points:  []point{at(p)},
				strikes: []func(*scene) error{kill(v.side, v.service)},
				ci:      m.mode == stop && step >= 0 && step%len(victims) == n,
			})
		}
	}
	return all
}
