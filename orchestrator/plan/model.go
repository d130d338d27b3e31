package plan

import (
	"cmp"
	"slices"
)

// model is the state of the pool at one moment of the plan, in numbers: hosts, pods, stacks, groups and domains are indices.
type model struct {
	in     *Input
	hosts  []host
	pods   []pod
	stacks []Stack
	// pair is what Pair said: allowed[from*len(stacks)+to].
	allowed []bool
	// members counts the pods of a group in a domain.
	members map[[2]int32]int32
	classes map[class]*heap
	// leaving are pods that have been given a new host in this stage and are still at the old one too.
	leaving []leave
	homes   map[int32][]int32
}

type leave struct{ pod, host int32 }

type host struct {
	cpu, memory         int64 // what is free
	maxCPU, maxMemory   int64
	before, after       int32
	domain              int32
	needs, drains, away bool
	reboots             bool
	patched             bool
	// position in the heap of its class, or -1.
	position int32
	pods     map[int32]struct{}
	groups   map[int32]int32
}

type pod struct {
	host, home  int32 // -1: none
	start       int32
	cpu, memory int64
	groups      []group
	mode        Mode
	restart     bool
	gone        bool
}

type group struct {
	id     int32
	domain bool
}

// moves says whether the pod can be migrated.
func (p *pod) moves() bool { return !p.gone && !p.restart && p.mode != "" }

// class is hosts that are alike as destinations. On a settled one a pod can stay: it is patched, or will be under its pods.
type class struct {
	stack   int32
	settled bool
}

func (m *model) class(h int32) class {
	return class{m.stack(h), m.hosts[h].patched || !m.hosts[h].drains}
}

type numbering struct{ ids map[string]int32 }

func (n *numbering) of(name string) int32 {
	id, ok := n.ids[name]
	if !ok {
		id = int32(len(n.ids))
		n.ids[name] = id
	}
	return id
}

// build makes the model of the beginning. Pods in without are left out, as if they had been stopped.
func build(in *Input, without map[int32]bool) *model {
	m := &model{in: in, members: map[[2]int32]int32{}, classes: map[class]*heap{}, homes: map[int32][]int32{}}
	domains, groups := numbering{map[string]int32{}}, numbering{map[string]int32{}}
	names := make(map[string]int32, len(in.Hosts))
	stacks := map[Stack]int32{}
	stackOf := func(s Stack) int32 {
		id, ok := stacks[s]
		if !ok {
			id = int32(len(m.stacks))
			stacks[s] = id
			m.stacks = append(m.stacks, s)
		}
		return id
	}
	m.hosts = make([]host, len(in.Hosts))
	for i, h := range in.Hosts {
		names[h.Name] = int32(i)
		m.hosts[i] = newHost(h, in.Policy)
		m.hosts[i].before, m.hosts[i].after = stackOf(h.Before), stackOf(afterOf(h, m.hosts[i].reboots))
		m.hosts[i].domain = domains.of(h.Domain)
	}
	m.pods = make([]pod, len(in.Pods))
	for i := range in.Pods {
		m.addPod(int32(i), names, &groups, without[int32(i)])
	}
	m.askPairs()
	for i := range m.hosts {
		m.enter(int32(i))
	}
	return m
}

func newHost(h Host, policy Policy) host {
	needs := len(h.Patch) > 0 || h.RebootRequired && policy.Reboot != RebootNever
	reboots := needs && (policy.Reboot == RebootAlways || policy.Reboot == RebootWhenRequired && h.RebootRequired)
	return host{
		cpu: h.CPU, memory: h.Memory, maxCPU: h.CPU, maxMemory: h.Memory, needs: needs && h.Away == nil, reboots: reboots,
		drains: needs && h.Away == nil && (reboots || h.RestartsPods || !policy.WithoutDrain),
		away:   h.Away != nil, patched: !needs, position: -1, pods: map[int32]struct{}{},
	}
}

// afterOf is the stack once the host is patched: without a reboot the kernel that runs stays.
func afterOf(h Host, reboots bool) Stack {
	after := h.After
	if !reboots {
		after.Kernel = h.Before.Kernel
	}
	if len(h.Patch) == 0 && !reboots {
		after = h.Before
	}
	return after
}

func (m *model) addPod(i int32, hosts map[string]int32, groups *numbering, gone bool) {
	from := m.in.Pods[i]
	at, known := hosts[from.Host]
	p := pod{host: at, start: at, home: -1, cpu: from.CPU, memory: from.Memory, gone: gone || !known}
	if home, ok := hosts[from.Home]; ok {
		p.home = home
	}
	for _, a := range from.Apart {
		name := "host " + a.Group
		if a.Domain {
			name = "domain " + a.Group
		}
		p.groups = append(p.groups, group{groups.of(name), a.Domain})
	}
	p.mode = m.in.mode(from)
	p.restart = (from.Fixed != nil || p.mode == "") && m.in.Policy.StopWhatCannotMove
	m.pods[i] = p
	if p.gone {
		return
	}
	m.occupy(i, at)
	m.hosts[at].pods[i] = struct{}{}
	if p.home >= 0 {
		m.homes[p.home] = append(m.homes[p.home], i)
	}
}

func (m *model) askPairs() {
	n := len(m.stacks)
	m.allowed = make([]bool, n*n)
	for from := range n {
		for to := range n {
			m.allowed[from*n+to] = m.in.Pair(m.stacks[from], m.stacks[to]) == nil
		}
	}
}

func (m *model) stack(h int32) int32 {
	if m.hosts[h].patched && m.hosts[h].needs {
		return m.hosts[h].after
	}
	return m.hosts[h].before
}

func (m *model) can(from, to int32) bool { return m.allowed[int(from)*len(m.stacks)+int(to)] }

// occupy takes room for a pod at a host.
func (m *model) occupy(p, at int32) {
	h, q := &m.hosts[at], &m.pods[p]
	h.cpu -= q.cpu
	h.memory -= q.memory
	m.count(q, at, 1)
	m.fix(at)
}

func (m *model) vacate(p, at int32) {
	h, q := &m.hosts[at], &m.pods[p]
	h.cpu += q.cpu
	h.memory += q.memory
	m.count(q, at, -1)
	m.fix(at)
}

func (m *model) count(q *pod, at int32, by int32) {
	h := &m.hosts[at]
	for _, g := range q.groups {
		if g.domain {
			m.members[[2]int32{h.domain, g.id}] += by
			continue
		}
		if h.groups == nil {
			h.groups = map[int32]int32{}
		}
		h.groups[g.id] += by
	}
}

// fits says whether a host has room for a pod and nothing there that must be kept apart from it. The pod may be counted at its
// own host, and at others that it is just leaving.
func (m *model) fits(p, at int32) bool {
	h, q := &m.hosts[at], &m.pods[p]
	if h.cpu < q.cpu || h.memory < q.memory {
		return false
	}
	for _, g := range q.groups {
		if g.domain {
			own := int32(0)
			if m.hosts[q.host].domain == h.domain {
				own = 1
			}
			for _, l := range m.leaving {
				if l.pod == p && m.hosts[l.host].domain == h.domain {
					own++
				}
			}
			if m.members[[2]int32{h.domain, g.id}] > own {
				return false
			}
		} else if h.groups[g.id] > 0 {
			return false
		}
	}
	return true
}

// assign gives a pod a new host; until the stage ends it has both.
func (m *model) assign(p, to int32) {
	from := m.pods[p].host
	m.occupy(p, to)
	delete(m.hosts[from].pods, p)
	m.hosts[to].pods[p] = struct{}{}
	m.pods[p].host = to
	m.leaving = append(m.leaving, leave{p, from})
}

// undo takes assignments of this stage back, the last first, until only n are left.
func (m *model) undo(n int) {
	for len(m.leaving) > n {
		l := m.leaving[len(m.leaving)-1]
		m.leaving = m.leaving[:len(m.leaving)-1]
		at := m.pods[l.pod].host
		m.vacate(l.pod, at)
		delete(m.hosts[at].pods, l.pod)
		m.hosts[l.host].pods[l.pod] = struct{}{}
		m.pods[l.pod].host = l.host
	}
}

// endStage ends the moves of a stage: pods are at their new hosts alone.
func (m *model) endStage() {
	for _, l := range m.leaving {
		m.vacate(l.pod, l.host)
	}
	m.leaving = m.leaving[:0]
}

// podsOf lists a host's pods, the largest first: small ones find room last as easily.
func (m *model) podsOf(h int32) []int32 {
	pods := make([]int32, 0, len(m.hosts[h].pods))
	for p := range m.hosts[h].pods {
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b int32) int {
		return cmp.Or(cmp.Compare(m.weight(b, h), m.weight(a, h)), cmp.Compare(len(m.pods[b].groups), len(m.pods[a].groups)), cmp.Compare(a, b))
	})
	return pods
}

// weight is the larger share of a host that a pod takes.
func (m *model) weight(p, h int32) float64 {
	return max(share(m.pods[p].memory, m.hosts[h].maxMemory), share(m.pods[p].cpu, m.hosts[h].maxCPU))
}

func share(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
