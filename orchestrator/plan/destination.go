package plan

import (
	"cmp"
	"slices"
)

const (
	whyHome    = "it belongs there"
	whyPatched = "a patched host with room"
	whyRoom    = "no patched host has room for it"
	whyReturn  = "its host is patched"
	whyMade    = "to make room for another pod"
)

// destination finds where a pod goes from a host that is drained, or -1: home, where that is done; a patched host, so that it
// need not move again; else any other. Among those, hosts of the kind that its own will be come first: what cannot go anywhere
// else needs the others. A pod that must return will do so when its host has the stack back.
func (m *model) destination(p, from, back int32) (to int32, why string) {
	q := &m.pods[p]
	must := m.in.Policy.Return == ReturnAlways
	if !must && q.home >= 0 && q.home != from && m.hosts[q.home].position >= 0 && m.class(q.home).settled && m.mayGo(p, from, m.stack(q.home)) && m.fits(p, q.home) {
		return q.home, whyHome
	}
	wish := must || m.in.Policy.Return == ReturnAffinity && q.home == from
	for _, returns := range []bool{true, false} {
		if returns && !wish || !returns && must {
			continue
		}
		for _, c := range m.classesFor(from) {
			if q.restart && !c.settled || !m.mayGo(p, from, c.stack) || returns && !m.can(c.stack, back) {
				continue
			}
			if to := m.search(m.classes[c], p); to >= 0 {
				if c.settled {
					return to, whyPatched
				}
				return to, whyRoom
			}
		}
	}
	return -1, ""
}

// mayGo says whether the pod can be handed to a host with this stack; one that is started again can go anywhere.
func (m *model) mayGo(p, from, stack int32) bool {
	return m.pods[p].restart || m.can(m.stack(from), stack)
}

// classesFor lists the classes in the order in which a host's pods prefer them.
func (m *model) classesFor(from int32) []class {
	classes := make([]class, 0, len(m.classes))
	for c := range m.classes {
		classes = append(classes, c)
	}
	rank := func(c class) int {
		switch {
		case c.settled && c.stack == m.hosts[from].after:
			return 0
		case c.settled:
			return 1
		case c.stack == m.hosts[from].before:
			return 2
		}
		return 3
	}
	slices.SortFunc(classes, func(a, b class) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.stack, b.stack)) })
	return classes
}
