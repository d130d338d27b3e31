package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// acceptPause is waited after an accept that failed: the process may have too many files open.
const acceptPause = 50 * time.Millisecond

// knownKey is the context's key for the version that is known with a connection.
type knownKey struct{}

// held is a connection that the proxy holds until it is closed. Its address or port may say its client's version.
type held struct {
	net.Conn
	version string
	proxy   *Proxy
}

// Close closes the connection; the proxy holds it no longer.
func (h *held) Close() error {
	h.proxy.release(h.Conn)
	return h.Conn.Close()
}

func knownVersion(c net.Conn) string {
	if h, ok := c.(*held); ok {
		return h.version
	}
	return ""
}

// listener hands connections that are not spliced to the HTTP server.
type listener struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// Accept gives the next connection that must be parsed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close closes the listener beneath too, once.
func (l *listener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	return err
}

// Serve accepts connections until the listener or the proxy is closed; whoever closes the listener only leaves the connections
// that it has accepted to go on. The version, where it is not empty, is that of every client of this listener: the record's
// client.ports.
func (p *Proxy) Serve(in net.Listener, version string) error {
	l := &listener{Listener: in, conns: make(chan net.Conn), closed: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errors.Join(http.ErrServerClosed, in.Close())
	}
	p.listeners = append(p.listeners, l)
	p.mu.Unlock()
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(l) }()
	for {
		c, err := in.Accept()
		if errors.Is(err, net.ErrClosed) {
			p.forget(l)
			return errors.Join(ignoreClosed(l.Close()), ignoreClosed(<-served))
		}
		if err != nil {
			p.log.Warn("a connection could not be accepted", "error", err)
			time.Sleep(acceptPause)
			continue
		}
		p.take(c, l, version)
	}
}

// take splices a connection, or hands it to the HTTP server.
func (p *Proxy) take(c net.Conn, l *listener, byPort string) {
	if !p.hold(c) {
		_ = c.Close()
		return
	}
	r := p.ready.Load()
	h := &held{c, r.known(c, byPort), p}
	switch b := r.whole(h.version); {
	case b == nil:
	case b.Version == r.clientOf(h.version, nil):
		p.spliced.Add(1)
		go p.splice(h, b)
		return
	default:
		go p.relay(h, r, b)
		return
	}
	select {
	case l.conns <- h:
	case <-l.closed:
		_ = h.Close() // nobody takes it any more
	}
}

func (p *Proxy) forget(l *listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listeners = slices.DeleteFunc(p.listeners, func(one *listener) bool { return one == l })
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// splice joins two connections; the kernel moves the bytes. Either side may end before the other.
func (p *Proxy) splice(client *held, b *backend) {
	defer client.Close()
	defer b.leave()
	server, err := b.dial(context.Background())
	if err != nil {
		p.log.Warn("the server cannot be reached", "server", b.Address, "error", err)
		return
	}
	defer server.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		half(client.Conn, server)
	}()
	half(server, client.Conn)
	<-back
}

// half copies one direction, and tells the receiver when it has ended.
func half(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok && err == nil {
		_ = tcp.CloseWrite() // where it fails the connection has ended anyway
		return
	}
	_, _ = to.Close(), from.Close() // a connection that broke ends the other one
}

func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) release(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	if p.closed && len(p.conns) == 0 {
		p.empty.Broadcast()
	}
}

// Connections is how many clients are connected.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}
