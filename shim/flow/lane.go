package flow

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed is what a closed lane or flow says.
var ErrClosed = errors.New("closed")

// exit is the place where packets leave. The entry is no worker, and has the same number.
const exit = 0

// Lane is one instance of a flow's graph. Packets leave it in the order in which they came.
type Lane[P any] struct {
	flow    *Flow[P]
	deliver func(P)
	// window bounds the packets that are in the lane.
	window chan struct{}
	ended  chan struct{}

	mu     sync.Mutex
	closed bool
	count  uint64
	entry  output[P]
	boxes  map[uint64]*inbox[P]

	// Only the exit's worker touches these.
	due     uint64
	waiting map[uint64]P
}

// Send takes a packet in. It waits while the lane is full.
func (l *Lane[P]) Send(ctx context.Context, p P) error {
	select {
	case l.window <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		<-l.window
		return ErrClosed
	}
	l.entry.send(entry[P]{packet: p, number: l.count})
	l.count++
	return nil
}

// Close takes no more packets, and waits until those that are in the lane have been delivered. It may be called twice.
func (l *Lane[P]) Close() {
	l.flow.forget(l)
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.entry.send(entry[P]{marker: &marker[P]{passed: func() { close(l.ended) }}})
	}
	l.mu.Unlock()
	<-l.ended
}

// leave delivers a packet when it is its turn.
func (l *Lane[P]) leave(e entry[P]) {
	if e.number != l.due {
		l.waiting[e.number] = e.packet
		return
	}
	for p, ok := e.packet, true; ok; p, ok = l.waiting[l.due] {
		delete(l.waiting, l.due)
		l.due++
		l.deliver(p)
		<-l.window
	}
}

// wirings say for each place of a plan how it is joined. New places get their inboxes.
func (l *Lane[P]) wirings(p *plan[P], made map[string]Operator[P]) map[uint64]wiring[P] {
	boxes := map[uint64]*inbox[P]{exit: l.boxes[exit]}
	if boxes[exit] == nil {
		boxes[exit] = newInbox[P]()
	}
	for _, place := range p.places {
		if boxes[place] = l.boxes[place]; boxes[place] == nil {
			boxes[place] = newInbox[P]()
		}
	}
	l.boxes = boxes
	inputs := map[uint64][]uint64{}
	for _, a := range p.Arcs {
		to := p.places[a.To]
		inputs[to] = append(inputs[to], p.arcs[p.link(a)])
	}
	next := map[uint64]wiring[P]{exit: {inputs: inputs[exit]}}
	for _, n := range p.Nodes {
		w := wiring[P]{inputs: inputs[p.places[n.Name]], operator: made[n.Name]}
		for _, port := range n.ports() {
			w.outputs = append(w.outputs, l.output(p, Arc{From: n.Name, Port: port}))
		}
		next[p.places[n.Name]] = w
	}
	return next
}

// output is where a port leads in a plan.
func (l *Lane[P]) output(p *plan[P], port Arc) output[P] {
	for _, a := range p.Arcs {
		if a.From == port.From && a.Port == port.Port {
			return output[P]{p.arcs[p.link(a)], l.boxes[p.places[a.To]]}
		}
	}
	return output[P]{} // Validate has seen that every port has an arc
}

// start runs a new place.
func (l *Lane[P]) start(place uint64, w wiring[P]) {
	one := &worker[P]{inbox: l.boxes[place], operator: w.operator, place: place, leave: l.leave}
	one.join(w)
	go one.run()
}

// change sends a marker in, and starts the places that are new.
func (l *Lane[P]) change(p *plan[P], made map[string]Operator[P], passed func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.boxes
	next := l.wirings(p, made)
	for place, w := range next {
		if known[place] == nil {
			l.start(place, w)
		}
	}
	l.entry.send(entry[P]{marker: &marker[P]{next: next, passed: passed}})
	l.entry = l.output(p, Arc{})
}
