package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/durable"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"
	"drydock/pods"
)

// Store is the controllers' store as a host sees it. Its methods may be called again after any error; an error that
// matches owner.ErrUnknown says nothing about what was done.
type Store interface {
	Look(ctx context.Context, pod string) owner.View
	Begin(ctx context.Context, move owner.Move) (owner.Record, error)
	Decide(ctx context.Context, pod, migration string, want owner.Outcome) (owner.Record, error)
	HandBack(ctx context.Context, pod, migration string, at owner.Place) (owner.Record, error)
	Settle(ctx context.Context, pod string, epoch uint64, at owner.Place) (owner.Record, error)
	ReportLost(ctx context.Context, pod string, epoch uint64, at owner.Place, reason string) (owner.Record, error)
	ReportStopped(ctx context.Context, pod string, epoch uint64, at owner.Place) (owner.Record, error)
	// Finish keeps the report of a migration that has ended.
	Finish(ctx context.Context, report *drydockv1.MigrationReport) error
}

// Peers reaches the agents of other hosts, over connections that are encrypted and authenticated.
type Peers interface {
	Receiver(peer *drydockv1.Peer) drydockv1connect.ReceiveServiceClient
	// Dial opens a connection that carries bytes, and has said hello on it.
	Dial(ctx context.Context, peer *drydockv1.Peer, hello transfer.Hello) (net.Conn, error)
	// Images opens the content store of another host.
	Images(peer *drydockv1.Peer) pods.OpenBlob
	// Find is how to reach a host by its name.
	Find(host string) (*drydockv1.Peer, bool)
}

// Config of an Engine.
type Config struct {
	// Here is this host in its present boot.
	Here owner.Place
	// Address at which other hosts reach this one's agent.
	Address string
	// DataDir survives a reboot, RunDir does not and lies in memory.
	DataDir, RunDir string
	Pods            *pods.Runtime
	Store           Store
	Peers           Peers
	// Inspect tells what this host is and can do.
	Inspect func(ctx context.Context) (*drydockv1.HostInfo, error)
	// Silence is how long the other host may take no byte of what is sent, and answer none, before the migration is given up.
	Silence time.Duration
	// At is called at named points, where tests let faults happen. May be nil.
	At  func(ctx context.Context, point string)
	Log *slog.Logger
}

// patience is how long a peer may be silent before it counts as such. It never thaws anything: the store decides.
const patience = 10 * time.Second

// Engine is a host's part in the migrations of its pods. Its methods are safe for concurrent use.
type Engine struct {
	Config
	journals journals

	mu   sync.Mutex
	pods map[string]*place
}

// New makes an Engine; Resume has to be called before it is used.
func New(cfg Config) *Engine {
	if cfg.At == nil {
		cfg.At = func(context.Context, string) {}
	}
	return &Engine{
		Config:   cfg,
		journals: journals{filepath.Join(cfg.DataDir, "journal")},
		pods:     make(map[string]*place),
	}
}

func (e *Engine) place(pod string) *place {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, found := e.pods[pod]
	if !found {
		p = newPlace()
		e.pods[pod] = p
	}
	return p
}

// hold makes the caller the only one who acts on a pod.
func (e *Engine) hold(ctx context.Context, pod string) (release func(), err error) {
	p := e.place(pod)
	select {
	case p.busy <- struct{}{}:
		return func() { <-p.busy }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("pod %s is busy: %w", pod, ctx.Err())
	}
}

// tryHold is hold that does not wait.
func (e *Engine) tryHold(pod string) (release func(), held bool) {
	p := e.place(pod)
	select {
	case p.busy <- struct{}{}:
		return func() { <-p.busy }, true
	default:
		return nil, false
	}
}

// Resume takes up, after a start of the agent, what an earlier one left: everything that a journal names is marked as
// interrupted, and Tend then does what the store says. A pod of which that cannot be read is named in the log and left alone.
func (e *Engine) Resume(ctx context.Context) error {
	if err := errors.Join(durable.RemoveTorn(e.DataDir), durable.RemoveTorn(e.journals.dir), durable.RemoveTorn(e.reports().dir)); err != nil {
		return err
	}
	names, err := e.Remembered()
	if err != nil {
		return err
	}
	if err := e.sweep(names); err != nil {
		return err
	}
	for _, pod := range names {
		if err := e.Damage(pod); err != nil {
			e.Log.Error("pod is damaged: restore the file that is named from a backup, or remove it once nothing of the pod runs here", "pod", pod, "error", err)
			continue
		}
		journal, err := e.journals.load(pod)
		if err != nil {
			return err
		}
		if journal.Side != "" {
			e.place(pod).interrupt()
		}
		if journal.Side == "" {
			e.Log.Info("pod without a journal is cleaned up unless the store says that it is ours", "pod", pod)
		}
		if err := e.endStandby(ctx, journal); err != nil {
			e.Log.Error("end the dump that an earlier agent has left", "pod", pod, "error", err)
		}
	}
	return nil
}

// Tend looks after every pod that has a journal or a record here, but leaves alone those that somebody acts on already.
// The other side of a migration is asked before, so that nobody waits for a host that does not answer. It returns the errors
// of all.
func (e *Engine) Tend(ctx context.Context) error {
	names, err := e.Remembered()
	errs := []error{err}
	for _, pod := range names {
		e.ask(ctx, pod)
		release, held := e.tryHold(pod)
		if !held {
			continue
		}
		_, err := e.resolve(ctx, pod, nil)
		release()
		if err != nil {
			errs = append(errs, fmt.Errorf("pod %s: %w", pod, err))
		}
	}
	return errors.Join(errs...)
}

// Look makes the engine look after one pod now, as Tend does, waiting for whoever acts on it.
func (e *Engine) Look(ctx context.Context, pod string) error {
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	_, err = e.resolve(ctx, pod, nil)
	return err
}
