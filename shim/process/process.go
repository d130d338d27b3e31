package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"

	"drydock/shim/proxy"
)

// Process is a shim that runs.
type Process struct {
	file  string
	log   *slog.Logger
	proxy *proxy.Proxy
	since time.Time
	later later

	mu        sync.Mutex // held while the configuration changes, and during a handover
	config    *loaded
	listeners map[string]*net.TCPListener
	control   *control
	traces    *trace.TracerProvider
	// retired is closed when another process has taken the listeners.
	retired chan struct{}

	serving sync.WaitGroup
}

// Run runs a shim by its configuration file until ctx ends, or until another process has taken over and the last connection
// has ended.
func Run(ctx context.Context, file string, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	p, err := start(ctx, file, log)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return p.stop()
		case <-p.retired:
			return p.drain(ctx)
		case <-hangup:
			if err := p.reload(ctx); err != nil {
				log.Error("the configuration stays as it was", "file", file, "error", err)
			}
		}
	}
}

// start does everything that can fail before a predecessor is told to retire.
func start(ctx context.Context, file string, log *slog.Logger) (*Process, error) {
	l, err := load(ctx, file)
	if err != nil {
		return nil, err
	}
	p := &Process{
		file: file, log: log.With("service", l.record.Service), since: time.Now(), config: l, listeners: map[string]*net.TCPListener{},
		retired: make(chan struct{}),
	}
	if l.Traces != "" {
		if p.traces, err = newTraces(ctx, l.Traces); err != nil {
			return nil, err
		}
		l.tracer = p.traces.Tracer("drydock/shim")
	}
	if p.proxy, err = proxy.New(l.settings(), p.log); err != nil {
		return nil, err
	}
	before, err := findPredecessor(ctx, l.Control)
	if err != nil {
		return nil, errors.Join(err, p.proxy.Close(ctx))
	}
	if err := p.begin(ctx, before); err != nil {
		for _, one := range p.listeners {
			err = errors.Join(err, one.Close())
		}
		before.leave()
		return nil, errors.Join(err, p.proxy.Close(ctx))
	}
	return p, nil
}

// begin gets the listeners, from the predecessor where there is one, and begins to serve.
func (p *Process) begin(ctx context.Context, before *predecessor) error {
	for _, one := range p.config.Listen {
		l := before.take(one.Address)
		if l == nil {
			var err error
			if l, err = listen(ctx, one.Address); err != nil {
				return err
			}
		}
		p.listeners[one.Address] = l
	}
	if err := before.retire(); err != nil {
		return err
	}
	p.mu.Lock() // whoever asks for another configuration waits until this one is served
	defer p.mu.Unlock()
	var err error
	if p.control, err = newControl(p); err != nil {
		return err
	}
	for _, one := range p.config.Listen {
		p.serve(one)
	}
	p.log.Info("the shim serves", "servers", p.config.servers(), "took over", before != nil)
	return nil
}

func listen(ctx context.Context, address string) (*net.TCPListener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	return l.(*net.TCPListener), nil
}

// serve accepts at one address. The caller holds mu, or is alone.
func (p *Process) serve(one Listen) {
	l, version := p.listeners[one.Address], p.config.version(one)
	p.serving.Go(func() {
		if err := p.proxy.Serve(l, version); err != nil {
			p.log.Error("an address is served no more", "address", one.Address, "error", err)
		}
	})
}

// reload takes up the configuration file anew. Addresses that it names no more are closed; their connections go on.
func (p *Process) reload(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, err := load(ctx, p.file)
	if err != nil {
		return err
	}
	if err := p.change(ctx, next); err != nil {
		return errors.Join(err, next.record.Close())
	}
	p.log.Info("the configuration has changed", "servers", next.servers())
	return nil
}

// change goes over to a configuration, or leaves everything as it was.
func (p *Process) change(ctx context.Context, next *loaded) error {
	var err error
	next.tracer = p.config.tracer
	if next.Traces != p.config.Traces {
		return errors.New("shim: traces cannot change while the shim runs: start a successor")
	}
	if next.Control != p.config.Control {
		return fmt.Errorf("shim: control cannot change from %s to %s while the shim runs", p.config.Control, next.Control)
	}
	if p.isRetired() {
		next.Listen = nil // they are the successor's
	}
	added := map[string]*net.TCPListener{}
	for _, one := range next.Listen {
		if p.listeners[one.Address] != nil && p.config.versionAt(one.Address) == next.version(one) {
			continue
		}
		if p.listeners[one.Address] != nil {
			return fmt.Errorf("shim: the version of clients of %s cannot change while it is served: listen on another port too", one.Address)
		}
		if added[one.Address], err = listen(ctx, one.Address); err != nil {
			return errors.Join(err, closeAll(added))
		}
	}
	if err := p.proxy.Reconfigure(ctx, next.settings()); err != nil {
		return errors.Join(err, closeAll(added))
	}
	before := p.config.record
	p.adopt(next, added)
	if err := before.Close(); err != nil {
		p.log.Warn("a module could not be let go of", "error", err)
	}
	return nil
}

// adopt goes over to a configuration that the proxy has taken.
func (p *Process) adopt(next *loaded, added map[string]*net.TCPListener) {
	wanted := map[string]bool{}
	p.config = next
	for _, one := range next.Listen {
		wanted[one.Address] = true
		if added[one.Address] != nil {
			p.listeners[one.Address] = added[one.Address]
			p.serve(one)
		}
	}
	for address, l := range p.listeners {
		if !wanted[address] {
			_ = l.Close() // nothing is lost with it
			delete(p.listeners, address)
		}
	}
}

func closeAll(listeners map[string]*net.TCPListener) error {
	var errs []error
	for _, l := range listeners {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

func (l *loaded) versionAt(address string) string {
	for _, one := range l.Listen {
		if one.Address == address {
			return l.version(one)
		}
	}
	return ""
}

func (p *Process) isRetired() bool {
	select {
	case <-p.retired:
		return true
	default:
		return false
	}
}

// drain serves the connections that are left, and then ends.
func (p *Process) drain(ctx context.Context) error {
	p.serving.Wait()
	p.log.Info("another process serves new connections; this one ends with its last", "connections", p.proxy.Connections())
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for p.proxy.Connections() > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		case <-hangup:
			if err := p.reload(ctx); err != nil {
				p.log.Error("the configuration stays as it was", "file", p.file, "error", err)
			}
		}
	}
	return p.stop()
}

// stop gives calls the grace that the configuration has, and ends.
func (p *Process) stop() error {
	p.mu.Lock()
	grace := p.config.Grace
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := p.proxy.Close(ctx)
	p.serving.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.Warn("calls were cut off", "after", grace)
		err = nil
	}
	if p.traces != nil {
		flush, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		if err := p.traces.Shutdown(flush); err != nil {
			p.log.Warn("spans were not sent", "error", err)
		}
	}
	return errors.Join(err, p.control.close(), p.config.record.Close())
}
