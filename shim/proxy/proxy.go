package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drydock/shim/chain"
	"drydock/shim/flow"
)

// Clients that send nothing are cut off after these.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	dialTimeout   = 5 * time.Second
	maxHeader     = 64 << 10
	maxIdle       = 256
)

// Proxy is a shim in front of one server.
type Proxy struct {
	counter chain.Counter
	ready   atomic.Pointer[ready]
	flow    *flow.Flow[*call]
	// lanes are open and carry no call now. A lane carries one call at a time.
	lanes  chan *lane
	server *http.Server
	plain  *http.Transport
	h2     *http.Transport
	log    *slog.Logger

	known       conditions
	reconfigure sync.Mutex
	unwatch     context.CancelFunc

	spliced atomic.Uint64
	unknown atomic.Uint64
	faults  atomic.Uint64
	watches watches

	mu        sync.Mutex
	empty     sync.Cond
	listeners []*listener
	conns     map[net.Conn]struct{}
	closed    bool
}

type lane struct {
	*flow.Lane[*call]
	done chan *call
}

// New plans every chain and makes a proxy that accepts nothing yet.
func New(s Settings, log *slog.Logger) (*Proxy, error) {
	p := &Proxy{lanes: make(chan *lane, maxIdle), log: log, conns: map[net.Conn]struct{}{}}
	p.empty.L = &p.mu
	r, err := s.ready(&p.counter, &p.known)
	if err != nil {
		return nil, err
	}
	r.hold()
	p.ready.Store(r)
	dialer := &net.Dialer{Timeout: dialTimeout}
	p.plain = &http.Transport{
		DialContext: dialer.DialContext, DisableCompression: true, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleTimeout,
		Protocols: protocols(true, false),
	}
	p.h2 = &http.Transport{DialContext: dialer.DialContext, DisableCompression: true, IdleConnTimeout: idleTimeout, Protocols: protocols(false, true)}
	if p.flow, err = flow.New(p.graph(r), 1); err != nil {
		return nil, err
	}
	p.watch(r)
	replies := &httputil.ReverseProxy{
		Rewrite: rewrite, Transport: p, FlushInterval: -1, BufferPool: &buffers{}, ErrorHandler: p.failed, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	p.server = &http.Server{
		Handler: duplex(replies), Protocols: protocols(true, true), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, knownKey{}, knownVersion(c))
		},
	}
	return p, nil
}

// duplex lets an answer begin before its request has ended, over HTTP/1.1 too: programs that do so are not to notice the shim.
func duplex(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // where it is not supported the request is read first
		next.ServeHTTP(w, r)
	})
}

func protocols(one, two bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(one)
	p.SetUnencryptedHTTP2(two)
	return p
}

// buffers are what replies are copied with.
type buffers struct{ pool sync.Pool }

// Get is a buffer that nobody uses.
func (b *buffers) Get() []byte {
	if one, ok := b.pool.Get().(*[]byte); ok {
		return *one
	}
	return make([]byte, 32<<10)
}

// Put takes a buffer back.
func (b *buffers) Put(one []byte) { b.pool.Put(&one) }

// Counts says what became of calls, by the versions of client and server. Spliced connections hold uncounted calls.
func (p *Proxy) Counts() []chain.Count { return p.counter.Counts() }

// Hops says how long each translator took.
func (p *Proxy) Hops() []chain.Hop { return p.counter.Hops() }

// Spliced is how many connections were joined to the server unread, ever.
func (p *Proxy) Spliced() uint64 { return p.spliced.Load() }

// Unknown is how many calls were refused because the record does not have the version that their client said.
func (p *Proxy) Unknown() uint64 { return p.unknown.Load() }

// Faults is how many connections ended because a module broke.
func (p *Proxy) Faults() uint64 { return p.faults.Load() }

// Changes is how many times the graph of operators was changed.
func (p *Proxy) Changes() uint64 {
	_, changes := p.flow.Graph()
	return changes
}

// Reconfigure goes over to other settings, without a pause: a call meets the old ones or the new ones. Where they are not
// valid the old ones stay. Connections that are spliced stay spliced.
func (p *Proxy) Reconfigure(ctx context.Context, s Settings) error {
	p.reconfigure.Lock()
	defer p.reconfigure.Unlock()
	r, err := s.ready(&p.counter, &p.known)
	if err != nil {
		return err
	}
	var edits []flow.Edit[*call]
	for _, n := range p.graph(r).Nodes {
		edits = append(edits, flow.Replace(n))
	}
	if _, err := p.flow.Update(ctx, edits...); err != nil {
		return err
	}
	r.hold() // before those who wait are told: they are not to find what was
	before := p.ready.Swap(r)
	close(before.over)
	if before.holds() || r.holds() { // a server that was stopped has closed them, or could not
		p.plain.CloseIdleConnections()
		p.h2.CloseIdleConnections()
	}
	p.watch(r)
	return nil
}

// watch looks after the backends of the newest settings only.
func (p *Proxy) watch(r *ready) {
	if p.unwatch != nil {
		p.unwatch()
	}
	var ctx context.Context
	ctx, p.unwatch = context.WithCancel(context.Background())
	r.watch(ctx)
}

// RoundTrip takes a call through the flow. However often it is tried, it is one span and one trace.
func (p *Proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	c := &call{request: r}
	traced, span := p.watches.begin(c), p.ready.Load().begin(c)
	err := p.try(c)
	finish(span, c, err)
	traced.end(c, err)
	if err != nil && c.response != nil {
		_ = c.response.Body.Close() // nobody reads it
	}
	return c.response, err
}

// try has a call whose server is held wait for other settings.
func (p *Proxy) try(c *call) error {
	ctx := c.request.Context()
	var late <-chan time.Time
	for {
		over := p.ready.Load().over
		err := p.once(c)
		if !errors.Is(err, errHeld) {
			return err
		}
		if late == nil {
			late = time.After(holdAtMost)
		}
		select {
		case <-over:
		case <-late:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// once sends a call through the flow. One that was held is as it was before.
func (p *Proxy) once(c *call) error {
	l, err := p.lane()
	if err != nil {
		return err
	}
	c.err = nil
	if err := l.Send(c.request.Context(), c); err != nil {
		p.free(l)
		return err
	}
	<-l.done
	p.free(l)
	c.leave()
	var unknown *unknownVersion
	if errors.As(c.err, &unknown) {
		p.unknown.Add(1)
	}
	return c.err
}

// lane is one without a call.
func (p *Proxy) lane() (*lane, error) {
	select {
	case l := <-p.lanes:
		return l, nil
	default:
	}
	l := &lane{done: make(chan *call, 1)}
	var err error
	l.Lane, err = p.flow.Lane(func(c *call) { l.done <- c })
	return l, err
}

func (p *Proxy) free(l *lane) {
	select {
	case p.lanes <- l:
	default:
		l.Close()
	}
}

// Close accepts nothing more, gives calls that are under way until ctx ends, and cuts off the rest.
func (p *Proxy) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	listeners := slices.Clone(p.listeners)
	p.mu.Unlock()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	if err := p.server.Shutdown(ctx); err != nil {
		errs = append(errs, err, p.server.Close())
	}
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close() // it may be closed already
	}
	for len(p.conns) > 0 {
		p.empty.Wait()
	}
	p.mu.Unlock()
	p.flow.Close()
	p.reconfigure.Lock()
	p.unwatch()
	p.reconfigure.Unlock()
	p.plain.CloseIdleConnections()
	p.h2.CloseIdleConnections()
	return errors.Join(errs...)
}
