package flow

import (
	"context"
	"fmt"
	"sync"
)

// Flow is a graph that runs in lanes.
type Flow[P any] struct {
	window int

	mu      sync.Mutex
	plan    *plan[P]
	version uint64
	lanes   map[*Lane[P]]struct{}
	closed  bool
}

// New makes a flow of a valid graph. At most window packets are in one lane at a time.
func New[P any](g Graph[P], window int) (*Flow[P], error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if window < 1 {
		return nil, fmt.Errorf("a window of %d packets lets none in", window)
	}
	return &Flow[P]{window: window, plan: newPlan(g), lanes: map[*Lane[P]]struct{}{}}, nil
}

// Lane runs the graph as it is now. deliver gets the packets, one at a time, and must not call the lane's Close.
func (f *Flow[P]) Lane(deliver func(P)) (*Lane[P], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	made, err := operators(f.plan, nil)
	if err != nil {
		return nil, err
	}
	l := &Lane[P]{
		flow: f, deliver: deliver, window: make(chan struct{}, f.window), ended: make(chan struct{}), waiting: map[uint64]P{},
	}
	for place, w := range l.wirings(f.plan, made) {
		l.start(place, w)
	}
	l.entry = l.output(f.plan, Arc{})
	f.lanes[l] = struct{}{}
	return l, nil
}

// operators makes those of a plan that are not in the one before; all of them, or none.
func operators[P any](p, before *plan[P]) (map[string]Operator[P], error) {
	made := map[string]Operator[P]{}
	for _, n := range p.Nodes {
		if before != nil && before.operators[n.Name] == p.operators[n.Name] {
			continue
		}
		o, err := n.New()
		if err != nil {
			discard(made)
			return nil, fmt.Errorf("operator %s: %w", n.Name, err)
		}
		made[n.Name] = o
	}
	return made, nil
}

func discard[P any](made map[string]Operator[P]) {
	for _, o := range made {
		closeOperator(o)
	}
}

// Change is a change that has been decided. Done is closed when the last packet of the old graph has left every lane.
type Change struct {
	Version uint64
	Done    <-chan struct{}
}

// Update makes edits that belong together. An error - the new graph is invalid (*InvalidError), an operator cannot be made, ctx
// has ended - leaves the old graph as it is. Without an error the change is decided: packets that are sent from now on meet the
// new graph. Update does not wait for packets that were sent before.
func (f *Flow[P]) Update(ctx context.Context, edits ...Edit[P]) (Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return Change{}, ErrClosed
	}
	next, err := f.plan.edited(edits)
	if err != nil {
		return Change{}, err
	}
	made := make(map[*Lane[P]]map[string]Operator[P], len(f.lanes))
	for l := range f.lanes {
		if made[l], err = operators(next, f.plan); err == nil {
			err = ctx.Err()
		}
		if err != nil {
			for _, m := range made {
				discard(m)
			}
			return Change{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return Change{}, err
	}
	// From here on nothing can fail.
	f.plan = next
	f.version++
	var left sync.WaitGroup
	left.Add(len(f.lanes))
	for l := range f.lanes {
		l.change(next, made[l], left.Done)
	}
	done := make(chan struct{})
	go func() {
		left.Wait()
		close(done)
	}()
	return Change{f.version, done}, nil
}

// Graph is the graph that new packets meet, and how many changes made it.
func (f *Flow[P]) Graph() (Graph[P], uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.plan.Graph
	return Graph[P]{append([]Node[P]{}, g.Nodes...), append([]Arc{}, g.Arcs...)}, f.version
}

// Lanes is how many are open.
func (f *Flow[P]) Lanes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lanes)
}

// Close closes every lane, and takes no more.
func (f *Flow[P]) Close() {
	f.mu.Lock()
	f.closed = true
	lanes := make([]*Lane[P], 0, len(f.lanes))
	for l := range f.lanes {
		lanes = append(lanes, l)
	}
	f.mu.Unlock()
	for _, l := range lanes {
		l.Close()
	}
}

func (f *Flow[P]) forget(l *Lane[P]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.lanes, l)
}
