package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"drydock/shim/module"
)

// maxQueue bounds what waits for a side that reads slowly: the other one is not read meanwhile.
const maxQueue = 256 << 10

// relay takes a connection's bytes through modules.
type relay struct {
	proxy *Proxy
	ready *ready
	held  *held
	to    *backend
	// version is the client's.
	version string

	mu   sync.Mutex // orders what the pipe is given, and what it makes
	pipe *module.Pipe

	toClient, toServer *queue
}

// relay serves one connection of a stream.
func (p *Proxy) relay(client *held, r *ready, b *backend) {
	defer client.Close()
	defer b.leave()
	version := r.clientOf(client.version, nil)
	l := &relay{proxy: p, ready: r, held: client, to: b, version: version, toClient: newQueue(client.Conn)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server, err := b.dial(ctx)
	if err != nil {
		p.log.Warn("the server cannot be reached", "server", b.Address, "error", err)
		return
	}
	defer server.Close()
	l.toServer = newQueue(server)
	if l.pipe, err = module.Open(ctx, r.steps[[2]string{version, b.Version}]); err != nil {
		l.broken(err)
		_, _ = io.WriteString(client.Conn, r.Record.Fault(version, b.Version)) // a client that has gone does not read it
		return
	}
	defer l.pipe.Close()
	var directions sync.WaitGroup
	directions.Go(l.toServer.write)
	directions.Go(l.toClient.write)
	directions.Go(func() { l.direction(ctx, module.ServerSide, server) })
	l.direction(ctx, module.ClientSide, client.Conn)
	directions.Wait()
}

func (b *backend) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", b.Address)
	b.down.Store(err != nil)
	return c, err
}

// direction gives the pipe what comes from one side until that ends, and then ends the other side's.
func (l *relay) direction(ctx context.Context, from module.Side, conn net.Conn) {
	to := l.toServer
	if from == module.ServerSide {
		to = l.toClient
	}
	defer to.end()
	buffer := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buffer)
		if n > 0 && !l.data(ctx, from, buffer[:n]) {
			return
		}
		if err != nil || !to.wait() {
			return
		}
	}
}

// data takes one piece through. Where a module breaks, the client is told what the record says, and the connection ends.
func (l *relay) data(ctx context.Context, from module.Side, data []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	begun := time.Now()
	out, err := l.pipe.Data(ctx, from, data)
	if err != nil {
		l.broken(err)
		l.toClient.put([]byte(l.ready.Record.Fault(l.version, l.to.Version)))
		l.toClient.end()
		l.toServer.end()
		return false
	}
	c := l.ready.chain(l.version, l.to)
	c.Took(time.Since(begun))
	for _, call := range out.Calls {
		c.Count(call.Outcome)
	}
	l.toServer.put(out.ToServer)
	l.toClient.put(out.ToClient)
	return true
}

func (l *relay) broken(err error) {
	l.proxy.faults.Add(1)
	var fault *module.FaultError
	if errors.As(err, &fault) {
		l.proxy.log.Error("a translator failed; its connection ends", "from", fault.From, "to", fault.To, "client", l.held.RemoteAddr(), "error", fault.Err)
	}
}

// queue is what waits to be written to one side. What is put there stays in order, and putting never waits: so the two
// directions cannot wait for each other.
type queue struct {
	to net.Conn

	mu     sync.Mutex
	moved  sync.Cond
	data   []byte
	ended  bool
	broken bool
}

func newQueue(to net.Conn) *queue {
	q := &queue{to: to}
	q.moved.L = &q.mu
	return q
}

func (q *queue) put(data []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended && !q.broken {
		q.data = append(q.data, data...)
		q.moved.Broadcast()
	}
}

// end lets write end when everything has been written.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.moved.Broadcast()
}

// wait waits until there is room; false where nothing can be written any more.
func (q *queue) wait() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.data) > maxQueue && !q.ended && !q.broken {
		q.moved.Wait()
	}
	return !q.ended && !q.broken
}

// write writes what is put until the queue has ended, and then tells the receiver.
func (q *queue) write() {
	for {
		q.mu.Lock()
		for len(q.data) == 0 && !q.ended {
			q.moved.Wait()
		}
		data := q.data
		q.data = nil
		q.mu.Unlock()
		if len(data) == 0 {
			if tcp, ok := q.to.(*net.TCPConn); ok {
				_ = tcp.CloseWrite() // where it fails the connection has ended anyway
			}
			return
		}
		_, err := q.to.Write(data)
		q.mu.Lock()
		q.broken = err != nil
		q.moved.Broadcast()
		q.mu.Unlock()
		if err != nil {
			_ = q.to.Close() // whoever reads from it ends too
			return
		}
	}
}
