package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// ProbeConfig says what to ask, whom, and how often.
type ProbeConfig struct {
	Dialer   Dialer
	Addr     string
	Interval time.Duration // between an answer and the next question at the least; 1 ms if zero
	Ask      []byte        // Redis's PING if empty
	Answer   []byte        // what must come back, byte for byte; a zero byte stands for any

	// RedialAfter makes the probe try fresh connections as well once the open one has been silent for so long, as a
	// client of a service that loses connections would. The first answer on either ends the silence. If zero, only an error
	// on the open connection makes the probe connect again.
	RedialAfter time.Duration
}

const (
	freshTimeout = 100 * time.Millisecond // for one attempt to connect and be answered
	betweenFresh = 5 * time.Millisecond
	grace        = 3 * time.Second // for the old connection to answer after a fresh one has
	pollTimeout  = 200 * time.Microsecond
)

// Probe asks a service over one open connection, all the time. Its silences are the blackouts that a client sees; where
// the connection is lost, they last until a new one is answered.
type Probe struct {
	*Timeline
	cfg    ProbeConfig
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	result Result
}

// StartProbe connects, waits for the first answer and goes on asking until Stop. The context covers the start only.
func StartProbe(ctx context.Context, cfg ProbeConfig) (*Probe, error) {
	if cfg.Interval == 0 {
		cfg.Interval = time.Millisecond
	}
	if len(cfg.Ask) == 0 {
		cfg.Ask, cfg.Answer = []byte("PING\r\n"), []byte("+PONG\r\n")
	}
	running, cancel := context.WithCancel(context.Background())
	p := &Probe{Timeline: newTimeline(), cfg: cfg, cancel: cancel, done: make(chan struct{})}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	conn, err := p.fresh(ctx, time.Until(deadline))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("probe %s: %w", cfg.Addr, err)
	}
	p.result.ConnectionsBefore, p.result.ConnectionsAfter = 1, 1
	go p.run(running, conn)
	return p, nil
}

// Lost returns how often a connection was lost so far.
func (p *Probe) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.result.Errors)
}

// Stop ends the probe. ConnectionsAfter is 1 if the very first connection was kept, and every lost one is an error.
func (p *Probe) Stop() Result {
	p.cancel()
	<-p.done
	return p.result
}

func (p *Probe) run(ctx context.Context, conn *probeConn) {
	defer close(p.done)
	for {
		unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
		next, err := p.askUntilLost(ctx, conn)
		unhook()
		_ = conn.Close()
		if ctx.Err() != nil {
			if next != nil {
				_ = next.Close()
			}
			return
		}
		p.mu.Lock()
		p.result.ConnectionsAfter = 0
		p.result.fail(err)
		p.mu.Unlock()
		for next == nil && ctx.Err() == nil {
			if next, err = p.fresh(ctx, freshTimeout); err != nil {
				sleep(ctx, betweenFresh)
			}
		}
		if next == nil {
			return
		}
		conn = next
	}
}

// askUntilLost asks over the connection until it fails, and says why. If a fresh connection has taken over by then, it is
// returned as well.
func (p *Probe) askUntilLost(ctx context.Context, conn *probeConn) (*probeConn, error) {
	ticker := time.NewTicker(p.cfg.Interval)
	defer ticker.Stop()
	for {
		err := conn.exchange(p.cfg.RedialAfter)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			var fresh *probeConn
			if fresh, err = p.bypass(ctx, conn); err != nil {
				return fresh, err
			}
		}
		if err != nil {
			return nil, err
		}
		p.mark()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}

// bypass looks for an answer on fresh connections while the old one is silent. It returns nil once the old one has
// answered; otherwise the connection that answers in its place, if any, and what happened to the old one.
func (p *Probe) bypass(ctx context.Context, old *probeConn) (*probeConn, error) {
	var fresh *probeConn
	var until time.Time
	for {
		err := old.await(pollTimeout)
		if err == nil && fresh != nil {
			_ = fresh.Close()
		}
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return onlyWith(err, fresh), err
		}
		if ctx.Err() != nil {
			return fresh, ctx.Err()
		}
		if fresh == nil {
			if fresh, err = p.fresh(ctx, freshTimeout); err != nil {
				sleep(ctx, betweenFresh)
			}
			until = time.Now().Add(grace)
			continue
		}
		if time.Now().After(until) {
			return fresh, errors.New("the open connection stayed silent when new ones were answered")
		}
		if err := fresh.exchange(freshTimeout); err != nil {
			_ = fresh.Close()
			fresh = nil
			continue
		}
		p.mark()
		sleep(ctx, p.cfg.Interval)
	}
}

// onlyWith returns the connection if there is an error.
func onlyWith(err error, conn *probeConn) *probeConn {
	if err == nil {
		return nil
	}
	return conn
}

// fresh opens a connection and has it answer once.
func (p *Probe) fresh(ctx context.Context, timeout time.Duration) (*probeConn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	opened, err := p.cfg.Dialer.DialContext(ctx, "tcp", p.cfg.Addr)
	if err != nil {
		return nil, err
	}
	conn := &probeConn{Conn: opened, ask: p.cfg.Ask, answer: p.cfg.Answer, read: make([]byte, len(p.cfg.Answer))}
	if err := conn.exchange(timeout); err != nil {
		_ = conn.Close()
		return nil, err
	}
	p.mark()
	return conn, nil
}

// probeConn asks on one connection and collects the answer, over several attempts if need be.
type probeConn struct {
	net.Conn
	ask, answer, read []byte
	have              int // of the answer
}

// exchange asks, and waits for the answer for so long; for ever if wait is zero.
func (c *probeConn) exchange(wait time.Duration) error {
	if _, err := c.Write(c.ask); err != nil {
		return err
	}
	return c.await(wait)
}

// await collects what is missing of the answer.
func (c *probeConn) await(wait time.Duration) error {
	var deadline time.Time
	if wait > 0 {
		deadline = time.Now().Add(wait)
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	for c.have < len(c.answer) {
		n, err := c.Read(c.read[c.have:])
		c.have += n
		if err != nil && c.have < len(c.answer) {
			return err
		}
	}
	c.have = 0
	for i, want := range c.answer {
		if want != 0 && c.read[i] != want {
			return fmt.Errorf("the answer was %q instead of %q", c.read, c.answer)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
