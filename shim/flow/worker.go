package flow

import "sync"

// entry is a packet or a marker that has come by an arc.
type entry[P any] struct {
	arc    uint64
	packet P
	// number is the packet's place among those of its lane.
	number uint64
	marker *marker[P]
}

// marker tells a lane's workers how to go on.
type marker[P any] struct {
	// next is what each place does from now on; a place that is not there ends.
	next map[uint64]wiring[P]
	// passed is called when the marker has come to the exit.
	passed func()
}

// wiring is how a place is joined to others.
type wiring[P any] struct {
	inputs  []uint64
	outputs []output[P]
	// operator is set where the place gets another one.
	operator Operator[P]
}

type output[P any] struct {
	arc uint64
	to  *inbox[P]
}

func (o output[P]) send(e entry[P]) {
	e.arc = o.arc
	o.to.put(e)
}

// inbox is all arcs that lead to a place: what comes by one arc stays in order. It is bounded by the lane's window.
type inbox[P any] struct {
	mu      sync.Mutex
	filled  sync.Cond
	entries []entry[P]
}

func newInbox[P any]() *inbox[P] {
	b := &inbox[P]{}
	b.filled.L = &b.mu
	return b
}

func (b *inbox[P]) put(e entry[P]) {
	b.mu.Lock()
	b.entries = append(b.entries, e)
	b.mu.Unlock()
	b.filled.Signal()
}

// take waits for entries, and swaps them for an empty slice.
func (b *inbox[P]) take(empty []entry[P]) []entry[P] {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.entries) == 0 {
		b.filled.Wait()
	}
	taken := b.entries
	b.entries = empty
	return taken
}

// worker runs one place of a lane. Only its own goroutine touches it, but for the inbox.
type worker[P any] struct {
	inbox    *inbox[P]
	operator Operator[P] // nil at the exit
	inputs   map[uint64]bool
	outputs  []output[P]
	// came are the inputs by which the next marker has come already: what follows there waits.
	came  map[uint64]bool
	place uint64
	leave func(entry[P]) // for the exit
}

func (w *worker[P]) join(next wiring[P]) {
	w.inputs = make(map[uint64]bool, len(next.inputs))
	for _, arc := range next.inputs {
		w.inputs[arc] = true
	}
	w.came = map[uint64]bool{}
	w.outputs = next.outputs
}

// run works until a marker ends the place.
func (w *worker[P]) run() {
	var held, spare []entry[P]
	for {
		batch := w.inbox.take(spare)
		work := batch
		for len(work) > 0 {
			e := work[0]
			work = work[1:]
			switch {
			// By an arc of a later version, or behind the marker on its arc: it waits for the marker.
			case !w.inputs[e.arc] || w.came[e.arc]:
				held = append(held, e)
			case e.marker == nil:
				w.pass(e)
			default:
				w.came[e.arc] = true
				if len(w.came) < len(w.inputs) {
					continue
				}
				if !w.change(e.marker) {
					return
				}
				work, held = append(held, work...), nil
			}
		}
		clear(batch)
		spare = batch[:0]
	}
}

func (w *worker[P]) pass(e entry[P]) {
	if w.place == exit {
		w.leave(e)
		return
	}
	port := w.operator.Process(e.packet)
	if port < 0 || port >= len(w.outputs) {
		port = 0
	}
	w.outputs[port].send(e)
}

// change goes over to the new graph and sends the marker on behind the last old packet: whoever gets it from the exit knows that
// all have changed.
func (w *worker[P]) change(m *marker[P]) bool {
	next, stays := m.next[w.place]
	if stays && next.operator != nil {
		if a, ok := next.operator.(Adopter[P]); ok {
			a.Adopt(w.operator)
		}
	}
	if !stays || next.operator != nil {
		closeOperator(w.operator)
		w.operator = next.operator
	}
	for _, o := range w.outputs {
		o.send(entry[P]{marker: m})
	}
	if w.place == exit {
		m.passed()
	}
	w.join(next)
	return stays
}

func closeOperator[P any](o Operator[P]) {
	if c, ok := o.(Closer); ok {
		c.Close()
	}
}
