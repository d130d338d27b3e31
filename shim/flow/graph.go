package flow

import (
	"fmt"
	"slices"
	"strings"
)

// Operator is one stage for the packets of one lane.
type Operator[P any] interface {
	// Process works on a packet and says by which of its node's ports it leaves. A number that is no port is the first one.
	Process(p P) (port int)
}

// Adopter is an Operator that takes over the state of the one that it replaces, after its last packet.
type Adopter[P any] interface {
	Adopt(old Operator[P])
}

// Closer is an Operator that is told when its last packet has gone: it was deleted or replaced, or its lane was closed.
type Closer interface {
	Close()
}

// Node is a named place for an operator.
type Node[P any] struct {
	Name string
	// Ports are the ways out; none stands for one with an empty name.
	Ports []string
	// New makes the operator of one lane.
	New func() (Operator[P], error)
}

// Arc leads from a node's port to a node. The entry is an empty From, the exit an empty To.
type Arc struct{ From, Port, To string }

// Graph is nodes and the arcs between them.
type Graph[P any] struct {
	Nodes []Node[P]
	Arcs  []Arc
}

// Line is a graph of nodes one behind the other; each has one port.
func Line[P any](nodes ...Node[P]) Graph[P] {
	g := Graph[P]{Nodes: nodes}
	from := ""
	for _, n := range nodes {
		g.Arcs = append(g.Arcs, Arc{From: from, To: n.Name})
		from = n.Name
	}
	g.Arcs = append(g.Arcs, Arc{From: from})
	return g
}

func (n Node[P]) ports() []string {
	if len(n.Ports) == 0 {
		return []string{""}
	}
	return n.Ports
}

// InvalidError is everything that is wrong with a graph, or with a change to it.
type InvalidError struct{ Reasons []string }

func (e *InvalidError) Error() string { return "invalid graph: " + strings.Join(e.Reasons, "; ") }

// Validate says what is wrong: every port needs one arc, every node a way from the entry and one to the exit, and no
// packet may go in a circle.
func (g Graph[P]) Validate() error {
	e := &InvalidError{}
	add := func(format string, args ...any) { e.Reasons = append(e.Reasons, fmt.Sprintf(format, args...)) }
	nodes := map[string]Node[P]{}
	for _, n := range g.Nodes {
		if _, twice := nodes[n.Name]; twice || n.Name == "" {
			add("the name %q is empty or there twice", n.Name)
		}
		if n.New == nil {
			add("node %s makes no operator", n.Name)
		}
		nodes[n.Name] = n
	}
	arcs := map[[2]string]int{}
	for _, a := range g.Arcs {
		arcs[[2]string{a.From, a.Port}]++
		from, known := nodes[a.From]
		if a.From == "" && a.Port != "" || a.From != "" && (!known || !slices.Contains(from.ports(), a.Port)) {
			add("an arc begins at %s, port %q, which does not exist", a.From, a.Port)
		}
		if _, known := nodes[a.To]; a.To != "" && !known {
			add("an arc leads to %s, which does not exist", a.To)
		}
	}
	if arcs[[2]string{}] != 1 {
		add("%d arcs lead in from the entry, not one", arcs[[2]string{}])
	}
	for _, n := range g.Nodes {
		for _, port := range n.ports() {
			if count := arcs[[2]string{n.Name, port}]; count != 1 {
				add("%d arcs leave %s by port %q, not one", count, n.Name, port)
			}
		}
	}
	if len(e.Reasons) == 0 {
		g.ways(add)
	}
	if len(e.Reasons) > 0 {
		return e
	}
	return nil
}

// ways finds circles and nodes off the way. As every port has an arc, whoever is not in a circle gets to the exit.
func (g Graph[P]) ways(add func(string, ...any)) {
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(name string)
	visit = func(name string) {
		state[name] = open
		for _, a := range g.Arcs {
			if a.From != name || a.To == "" {
				continue
			}
			if state[a.To] == open {
				add("a circle leads through %s", a.To)
			}
			if state[a.To] == 0 {
				visit(a.To)
			}
		}
		state[name] = done
	}
	visit("")
	for _, n := range g.Nodes {
		if state[n.Name] == 0 {
			add("no way leads to %s", n.Name)
		}
	}
}
