package chain

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// Hop is how long the translator between two neighbours took: for each request, answer and message of a stream.
type Hop struct {
	From, To string
	Times    uint64
	Total    time.Duration
	// UpTo counts those that took no longer than the HopBounds of the same index.
	UpTo []uint64
}

// HopBounds are those of Hop.UpTo.
func HopBounds() []time.Duration {
	const us = time.Microsecond
	return []time.Duration{5 * us, 10 * us, 25 * us, 50 * us, 100 * us, 250 * us, 500 * us, 1000 * us, 5000 * us, 25000 * us, 100000 * us}
}

// hop is shared by all chains of a counter that have the same step.
type hop struct {
	bounds []time.Duration
	within []atomic.Uint64 // one more than bounds
	total  atomic.Int64
}

// took notes one translation. A nil hop notes nothing.
func (h *hop) took(d time.Duration) {
	if h == nil {
		return
	}
	at, _ := slices.BinarySearch(h.bounds, d)
	h.within[at].Add(1)
	h.total.Add(int64(d))
}

// hop is that of a step; nil for a nil counter.
func (c *Counter) hop(from, to string) *hop {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]string{from, to}
	if c.hops == nil {
		c.hops = map[[2]string]*hop{}
	}
	if c.hops[key] == nil {
		bounds := HopBounds()
		c.hops[key] = &hop{bounds: bounds, within: make([]atomic.Uint64, len(bounds)+1)}
	}
	return c.hops[key]
}

// Hops are those that were gone through, in the order of their versions' names.
func (c *Counter) Hops() []Hop {
	c.mu.Lock()
	defer c.mu.Unlock()
	var hops []Hop
	for key, h := range c.hops {
		out := Hop{From: key[0], To: key[1], Total: time.Duration(h.total.Load())}
		for i := range h.within {
			out.Times += h.within[i].Load()
			if i < len(h.bounds) {
				out.UpTo = append(out.UpTo, out.Times)
			}
		}
		if out.Times > 0 {
			hops = append(hops, out)
		}
	}
	slices.SortFunc(hops, func(a, b Hop) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return hops
}
