package proxy

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drydock/shim/chain"
)

// Backend is one server of a gateway.
type Backend struct {
	// Name stays the same when the server moves or is upgraded: keys belong to names.
	Name string `json:"name"`
	// Address is host:port.
	Address string `json:"address"`
	Version string `json:"version"`
	// Hold has calls to the server wait: it is about to be another version of itself.
	Hold bool `json:"hold,omitempty"`
}

// Health says how a gateway finds out whether a backend can be used.
type Health struct {
	// Path is asked for, and must be answered with a status below 400; where it is empty, a connection is enough.
	Path string
	// Every is how often; 0 is one second.
	Every time.Duration
}

const defaultEvery = time.Second

// BackendState is a backend and whether it answers.
type BackendState struct {
	Backend
	Healthy bool `json:"healthy"`
	// Calls are under way: their answers have not ended.
	Calls int64 `json:"calls"`
}

// backend is one that settings name; what is known of it stays when they change.
type backend struct {
	Backend
	*condition
}

// condition is what is known of an address.
type condition struct {
	down  atomic.Bool
	calls atomic.Int64

	mu   sync.Mutex // orders take and hold: whoever has held a backend sees every call that is on its way there
	held bool
}

// take counts a call, unless calls are held. Who took ends it with leave.
func (c *condition) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.held {
		c.calls.Add(1)
	}
	return !c.held
}

func (c *condition) leave() { c.calls.Add(-1) }

func (c *condition) hold(held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
}

// conditions are those of all addresses that were ever used.
type conditions struct {
	mu  sync.Mutex
	all map[string]*condition
}

func (c *conditions) of(address string) *condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]*condition{}
	}
	if c.all[address] == nil {
		c.all[address] = &condition{}
	}
	return c.all[address]
}

// errHeld is that a call's server gets no calls at the moment.
var errHeld = errors.New("the server is being upgraded: call again later; `drydock upgrade ls` says how far it is")

// holdAtMost is how long a call waits for that: a client that has less patience goes before.
const holdAtMost = 10 * time.Minute

// pick chooses a backend for a call: with a key the one that it belongs to, whatever its state; else a healthy one of the client's
// version, or with the shortest chain, and of those the one with the fewest calls.
func (r *ready) pick(client, key string, keyed bool) (*backend, error) {
	if keyed {
		return r.owner(key), nil
	}
	var best *backend
	turn := int(r.turn.Add(1))
	for i := range r.backends {
		b := r.backends[(i+turn)%len(r.backends)]
		if r.chain(client, b) != nil && (best == nil || r.better(client, b, best)) {
			best = b
		}
	}
	if best == nil {
		return nil, fmt.Errorf("no chain of service %s leads from version %s to a server: add one that speaks it, or a neighbour version, to the backends", r.Record.Service, client)
	}
	return best, nil
}

func (r *ready) better(client string, a, b *backend) bool {
	if x, y := a.rank(), b.rank(); x != y {
		return x < y
	}
	if x, y := len(r.chain(client, a).Steps()), len(r.chain(client, b).Steps()); x != y {
		return x < y
	}
	return a.calls.Load() < b.calls.Load()
}

// rank is less where a call is better off: at once, after a while, or not at all.
func (b *backend) rank() int {
	switch {
	case b.Hold:
		return 1
	case b.down.Load():
		return 2
	}
	return 0
}

// owner is the backend whose name and the key make the largest hash (rendezvous hashing: Thaler and Ravishankar, 1998): a
// backend that comes or goes moves no keys but its own.
func (r *ready) owner(key string) *backend {
	var best *backend
	var most uint64
	for _, b := range r.backends {
		h := fnv.New64a()
		_, _ = io.WriteString(h, key+"\x00"+b.Name) // a hash does not fail
		if sum := mix(h.Sum64()); best == nil || sum > most {
			best, most = b, sum
		}
	}
	return best
}

// mix spreads the bits of a sum (the finaliser of MurmurHash3): FNV's last bytes, in which names differ, move too few.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (r *ready) chain(client string, b *backend) *chain.Chain {
	return r.chains[[2]string{client, b.Version}]
}

// watch looks after the backends until ctx ends. One alone is not looked after: there is no other choice.
func (r *ready) watch(ctx context.Context) {
	if len(r.backends) < 2 {
		return
	}
	for _, b := range r.backends {
		go func() {
			tick := time.NewTicker(r.Health.Every)
			defer tick.Stop()
			for {
				err := r.Health.probe(ctx, b.Address)
				if ctx.Err() != nil {
					return
				}
				b.down.Store(err != nil)
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}

// probe finds out whether a backend can be used.
func (h Health) probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, max(h.Every, time.Second))
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil || h.Path == "" {
		if err == nil {
			err = c.Close()
		}
		return err
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }, DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+h.Path, nil)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return errors.Join(err, ignoreClosed(c.Close()))
	}
	if answer.StatusCode >= 400 {
		err = fmt.Errorf("status %d", answer.StatusCode)
	}
	return errors.Join(err, answer.Body.Close())
}

// Backends are those of the settings, with their state.
func (p *Proxy) Backends() []BackendState {
	var out []BackendState
	for _, b := range p.ready.Load().backends {
		out = append(out, BackendState{b.Backend, !b.down.Load(), b.calls.Load()})
	}
	return out
}

// notReached says that a call did not get to a backend, so that another may be tried.
func notReached(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// same takes another healthy backend of the same version, or is nil.
func (r *ready) same(b *backend) *backend {
	i := slices.IndexFunc(r.backends, func(other *backend) bool {
		return other != b && other.Version == b.Version && !other.down.Load() && other.take()
	})
	if i < 0 {
		return nil
	}
	return r.backends[i]
}
