package flow

import (
	"fmt"
	"maps"
	"slices"
)

// Edit is a part of a change.
type Edit[P any] struct {
	// What it does, for whoever reads a refusal.
	What  string
	apply func(g *plan[P]) error
}

// plan is a graph with identities: a node that is deleted and inserted again under its name is another place, and a node
// that is replaced is the same place with another operator.
type plan[P any] struct {
	Graph[P]
	places    map[string]uint64
	operators map[string]uint64
	arcs      map[link]uint64
	last      *uint64
}

// link is an arc between places. The exit is place 0, and so is the entry.
type link struct {
	from uint64
	port string
	to   uint64
}

func (p *plan[P]) number() uint64 {
	*p.last++
	return *p.last
}

func newPlan[P any](g Graph[P]) *plan[P] {
	p := &plan[P]{Graph: g, places: map[string]uint64{}, operators: map[string]uint64{}, last: new(uint64)}
	for _, n := range g.Nodes {
		p.places[n.Name], p.operators[n.Name] = p.number(), p.number()
	}
	p.numberArcs(nil)
	return p
}

func (p *plan[P]) link(a Arc) link { return link{p.places[a.From], a.Port, p.places[a.To]} }

// numberArcs gives new arcs a number; those that stay keep theirs.
func (p *plan[P]) numberArcs(before map[link]uint64) {
	p.arcs = make(map[link]uint64, len(p.Arcs))
	for _, a := range p.Arcs {
		id, ok := before[p.link(a)]
		if !ok {
			id = p.number()
		}
		p.arcs[p.link(a)] = id
	}
}

// edited is a copy with the edits made, validated.
func (p *plan[P]) edited(edits []Edit[P]) (*plan[P], error) {
	out := &plan[P]{
		Graph:  Graph[P]{slices.Clone(p.Nodes), slices.Clone(p.Arcs)},
		places: maps.Clone(p.places), operators: maps.Clone(p.operators), last: p.last,
	}
	for _, e := range edits {
		if err := e.apply(out); err != nil {
			return nil, &InvalidError{[]string{e.What + ": " + err.Error()}}
		}
	}
	if err := out.Validate(); err != nil {
		return nil, err
	}
	out.numberArcs(p.arcs)
	return out, nil
}

func (p *plan[P]) find(name string) (int, error) {
	i := slices.IndexFunc(p.Nodes, func(n Node[P]) bool { return n.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("there is no node %s", name)
	}
	return i, nil
}

// Insert puts a node into an arc; what comes out of the node's port through goes on where the arc led.
func Insert[P any](n Node[P], on Arc, through string) Edit[P] {
	return Edit[P]{"insert " + n.Name, func(p *plan[P]) error {
		i := slices.Index(p.Arcs, on)
		if i < 0 {
			return fmt.Errorf("no arc leads from %q, port %q, to %q", on.From, on.Port, on.To)
		}
		if _, err := p.find(n.Name); err == nil {
			return fmt.Errorf("there is a node %s already", n.Name)
		}
		p.Arcs[i].To = n.Name
		p.Arcs = append(p.Arcs, Arc{n.Name, through, on.To})
		p.Nodes = append(p.Nodes, n)
		p.places[n.Name], p.operators[n.Name] = p.number(), p.number()
		return nil
	}}
}

// Delete takes a node away; what came to it goes on where its port through led. Arcs from its other ports go too.
func Delete[P any](name, through string) Edit[P] {
	return Edit[P]{"delete " + name, func(p *plan[P]) error {
		i, err := p.find(name)
		if err != nil {
			return err
		}
		j := slices.IndexFunc(p.Arcs, func(a Arc) bool { return a.From == name && a.Port == through })
		if j < 0 {
			return fmt.Errorf("nothing leaves it by port %q", through)
		}
		to := p.Arcs[j].To
		p.Arcs = slices.DeleteFunc(p.Arcs, func(a Arc) bool { return a.From == name })
		for k := range p.Arcs {
			if p.Arcs[k].To == name {
				p.Arcs[k].To = to
			}
		}
		p.Nodes = slices.Delete(p.Nodes, i, i+1)
		delete(p.places, name)
		delete(p.operators, name)
		return nil
	}}
}

// Replace gives a node another operator, and perhaps other ports. An operator that is an Adopter gets the old one's state.
func Replace[P any](n Node[P]) Edit[P] {
	return Edit[P]{"replace " + n.Name, func(p *plan[P]) error {
		i, err := p.find(n.Name)
		if err != nil {
			return err
		}
		p.Nodes[i], p.operators[n.Name] = n, p.number()
		return nil
	}}
}

// Connect leads a port to a node; where it led elsewhere, it does so no more.
func Connect[P any](from, port, to string) Edit[P] {
	return Edit[P]{fmt.Sprintf("connect %s with %s", from, to), func(p *plan[P]) error {
		p.Arcs = slices.DeleteFunc(p.Arcs, func(a Arc) bool { return a.From == from && a.Port == port })
		p.Arcs = append(p.Arcs, Arc{from, port, to})
		return nil
	}}
}
