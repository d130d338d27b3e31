package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

// portKey is the context's key for the version that a connection's port stands for.
type portKey struct{}

// versioned is a connection whose port may say its client's version.
type versioned struct {
	net.Conn
	version string
}

func portVersion(c net.Conn) string {
	if v, ok := c.(*versioned); ok {
		return v.version
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

// Serve accepts connections until the listener or the proxy is closed. The version, where it is not empty, is that of every
// client of this listener: the record's client.ports.
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
		if err != nil {
			err = errors.Join(ignoreClosed(err), ignoreClosed(l.Close()))
			return errors.Join(err, ignoreClosed(<-served))
		}
		if r := p.ready.Load(); r.splices(version) {
			go p.splice(c, r.Server)
			continue
		}
		select {
		case l.conns <- &versioned{c, version}:
		case <-l.closed:
			_ = c.Close() // nobody takes it any more
		}
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// splice joins two connections; the kernel moves the bytes. Either side may end before the other.
func (p *Proxy) splice(client net.Conn, address string) {
	if !p.hold(client) {
		_ = client.Close()
		return
	}
	defer p.release(client)
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	server, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	cancel()
	if err != nil {
		p.log.Warn("the server cannot be reached", "server", address, "error", err)
		return
	}
	defer server.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		half(client, server)
	}()
	half(server, client)
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
	p.splices[c] = struct{}{}
	p.running.Add(1)
	return true
}

func (p *Proxy) release(c net.Conn) {
	p.mu.Lock()
	delete(p.splices, c)
	p.mu.Unlock()
	_ = c.Close()
	p.running.Done()
}
