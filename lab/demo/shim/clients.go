package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drydock/lab/shop"
)

// entry is an order as its last acknowledged write left it. Whoever reads it keeps its writer from writing meanwhile.
type entry struct {
	sync.RWMutex
	shop.Sold
}

// book has every order that was acknowledged.
type book struct {
	mu     sync.Mutex
	ids    []string
	orders map[string]*entry
}

func newBook() *book { return &book{orders: make(map[string]*entry)} }

func (b *book) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ids)
}

func (b *book) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ids)
}

func (b *book) enter(id string, e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids, b.orders[id] = append(b.ids, id), e
}

func (b *book) entry(id string) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.orders[id]
}

// between is what calls are counted by.
type between struct{ client, server, protocol string }

// calls are those of one client to servers of one version.
type calls struct {
	made, translated, disallowed, failed int
	took                                 []time.Duration
}

// client writes and reads orders in one version over one protocol, one call after the other.
type client struct {
	version, protocol string
	shop              shop.Client
	book              *book
	random            *rand.Rand
	calls             atomic.Int64
	stop              chan struct{}
	rest              func()

	mu    sync.Mutex
	stats map[between]*calls
	first string
}

// callLimit is for a call that waits in the gateway while its server is upgraded. It is no promise about speed.
const callLimit = 15 * time.Minute

func newClient(version, protocol string, c shop.Client, b *book, seed uint64) *client {
	return &client{
		version: version, protocol: protocol, shop: c, book: b, random: rand.New(rand.NewPCG(seed, 1)), stop: make(chan struct{}), rest: func() {},
		stats: make(map[between]*calls),
	}
}

// begin makes calls until rest is called.
func (c *client) begin() {
	ended := make(chan struct{})
	c.rest = sync.OnceFunc(func() { close(c.stop); <-ended })
	go func() {
		defer close(ended)
		var own []string
		for {
			select {
			case <-c.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			own = c.round(context.Background(), own)
		}
	}()
}

// end is for good.
func (c *client) end() error {
	c.rest()
	return c.shop.Close()
}

// fault is the first call that has failed.
func (c *client) fault() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

// round is a write, of a new order or over one of the client's own, and a read of anybody's.
func (c *client) round(ctx context.Context, own []string) []string {
	id, e := fmt.Sprintf("%s-%s-%d", c.version, c.protocol, len(own)), &entry{}
	if len(own) > 0 && c.random.IntN(3) == 0 {
		id = own[c.random.IntN(len(own))]
		e = c.book.entry(id)
	}
	sold := shop.Sold{Amount: 1 + c.random.Int64N(1e12)}
	if c.protocol == "http" && c.version == "v3" && c.random.IntN(4) > 0 {
		sold.Note = fmt.Sprintf("note %x", c.random.Uint64())
	}
	if c.write(ctx, id, e, sold) && c.book.entry(id) == nil {
		c.book.enter(id, e)
		own = append(own, id)
	}
	if ids := c.book.all(); len(ids) > 0 {
		_ = c.read(ctx, ids[c.random.IntN(len(ids))]) // it is on the books
	}
	if deleter, ok := c.shop.(*shop.HTTP); ok && c.version == "v3" && c.random.IntN(10) == 0 {
		c.refused(ctx, deleter, fmt.Sprintf("gone-%x", c.random.Uint64()))
	}
	return own
}

func (c *client) write(ctx context.Context, id string, e *entry, sold shop.Sold) bool {
	e.Lock()
	defer e.Unlock()
	err := c.call(ctx, func(ctx context.Context) (string, error) { return c.shop.Put(ctx, id, sold) })
	if err == nil {
		e.Sold = sold
	}
	return err == nil
}

// read fails where an order is not what its last writer has made it, as far as the client's version knows that.
func (c *client) read(ctx context.Context, id string) error {
	e := c.book.entry(id)
	e.RLock()
	defer e.RUnlock()
	return c.call(ctx, func(ctx context.Context) (string, error) {
		got, served, err := c.shop.Get(ctx, id)
		if want := e.As(c.version); err == nil && got != want {
			err = fmt.Errorf("order %s is %+v, not %+v", id, got, want)
		}
		return served, err
	})
}

// refused makes a call that only servers of v3 have.
func (c *client) refused(ctx context.Context, deleter *shop.HTTP, id string) {
	var served string
	_ = c.call(ctx, func(ctx context.Context) (_ string, err error) { // it is on the books
		served, err = deleter.Missing(ctx, id)
		return served, err
	})
	_ = c.call(ctx, func(ctx context.Context) (string, error) {
		by, err := deleter.Delete(ctx, id)
		if errors.Is(err, shop.ErrDisallowed) {
			return served, err
		}
		return by, err
	})
}

// call enters what became of a call. One that the record disallows has not failed.
func (c *client) call(ctx context.Context, do func(context.Context) (served string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	begun := time.Now()
	served, err := do(ctx)
	took := time.Since(begun)
	c.calls.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if served == "" {
		served = "unknown"
	}
	key := between{c.version, served, c.protocol}
	n := c.stats[key]
	if n == nil {
		n = &calls{}
		c.stats[key] = n
	}
	n.made++
	n.took = append(n.took, took)
	switch {
	case errors.Is(err, shop.ErrDisallowed):
		n.disallowed++
		return nil
	case err != nil:
		n.failed++
		if c.first == "" {
			c.first = fmt.Sprintf("%s over %s: %v", c.version, c.protocol, err)
		}
	case served != c.version:
		n.translated++
	}
	return err
}
