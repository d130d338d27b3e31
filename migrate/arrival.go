package migrate

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/filesync"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"
	"drydock/pods/network"
)

// arrival is a pod that is being received.
type arrival struct {
	migration string
	images    *transfer.ImageReceiver
	// descriptors are runc's, by container.
	descriptors map[string][]byte
	// events go to the source, for as long as it listens.
	events chan string

	// These belong to whoever holds the pod.
	loopback *network.LoopbackHold
	// restore is the one that runs or waits.
	restore *early

	// mu guards what is asked for while somebody holds the pod.
	mu      sync.Mutex
	hold    *network.Hold
	settled bool
	// source ends when the source has hung up.
	source context.Context
	// files are the directories that were brought over.
	files []*filesync.Target
	// conns carry something in now, each in a goroutine that serving counts, until closed is set.
	conns   map[net.Conn]bool
	closed  bool
	serving sync.WaitGroup
}

// Events of a destination, in order.
const (
	eventRestored = "restored"
	eventRunning  = "running"
	eventSettled  = "settled"
	// eventTranslated is followed by the names of the rules that were used.
	eventTranslated = "translated"
)

func (a *arrival) tell(event string) {
	select {
	case a.events <- event:
	default:
	}
}

func (a *arrival) setSettled() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settled = true
}

func (a *arrival) isSettled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.settled
}

// awaits notes that the source waits for what becomes of the pod, for as long as its context lives.
func (a *arrival) awaits(source context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.source = source
}

func (a *arrival) awaited() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.source != nil && a.source.Err() == nil
}

func (a *arrival) setHold(hold *network.Hold) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hold = hold
}

// packets is what holds the pod's packets; nil before it is ready.
func (a *arrival) packets() *network.Hold {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hold
}

// receiving makes what takes in the pod's files, memory and network.
func (e *Engine) receiving(ctx context.Context, req *drydockv1.ReceivePrepareRequest) error {
	pod, id := req.Needs.Spec.Name, req.Migration.Id
	dir, err := e.makeDir(id)
	if err != nil {
		return err
	}
	images := filepath.Join(dir, "images")
	if err := os.MkdirAll(images, 0o700); err != nil {
		return err
	}
	if err := e.noteRules(ctx, id, req.Needs.Kernel); err != nil {
		return err
	}
	net, err := e.Pods.Network(ctx, pod)
	if err != nil {
		return err
	}
	var static network.StaticState
	if err := json.Unmarshal(req.NetworkState, &static); err != nil {
		return fmt.Errorf("network state of pod %s: %w", pod, err)
	}
	if err := net.LoadStatic(ctx, static); err != nil {
		return err
	}
	// Asked again, what an earlier attempt has opened goes.
	e.endArrival(ctx, pod)
	coming := &arrival{migration: id, events: make(chan string, 8), descriptors: req.Descriptors}
	if coming.images, err = transfer.NewImageReceiver(images); err != nil {
		return err
	}
	e.place(pod).setArrival(coming)
	return nil
}

func (a *arrival) relay(done <-chan struct{}, events func(string)) {
	for {
		select {
		case event := <-a.events:
			events(event)
		case <-done:
			for {
				select {
				case event := <-a.events:
					events(event)
				default:
					return
				}
			}
		}
	}
}

// pagesPoll is how often it is looked whether all pages have come.
const pagesPoll = 10 * time.Millisecond

// arriving tells that a pod was let run here by post-copy and has not settled.
func (e *Engine) arriving(req *drydockv1.ReceiveRestoreRequest) bool {
	j, err := e.journals.load(req.Pod)
	return err == nil && j.PostCopy && j.Side == owner.Destination && j.Migration == req.Migration &&
		(j.Stage == owner.Committed || j.Stage == owner.PluggedIn)
}

func (e *Engine) endArrival(ctx context.Context, pod string) {
	p := e.place(pod)
	coming := p.arrival()
	if coming == nil {
		return
	}
	e.endEarly(pod, coming.restore)
	coming.fallSilent(ctx)
	coming.close()
	p.setArrival(nil)
}

// fallSilent throws away the packets that were held, and answers no more for the pod's address. It needs nothing but the
// kernel, and may be called again.
func (a *arrival) fallSilent(ctx context.Context) {
	if a.loopback != nil {
		_ = a.loopback.Drop(ctx)
	}
	if hold := a.packets(); hold != nil {
		_ = hold.Drop(ctx)
	}
}

// serve registers a connection that carries something into the arrival's directories, until end is called.
func (a *arrival) serve(conn net.Conn) (end func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, fmt.Errorf("migration %s is not received here any more", a.migration)
	}
	if a.conns == nil {
		a.conns = make(map[net.Conn]bool)
	}
	a.conns[conn] = true
	a.serving.Add(1)
	return func() {
		a.mu.Lock()
		delete(a.conns, conn)
		a.mu.Unlock()
		a.serving.Done()
	}, nil
}

// close ends what is still being received, and lets go of the directories: a source that was stopped half-way, and goes on
// later, must find nothing to write to.
func (a *arrival) close() {
	a.mu.Lock()
	a.closed = true
	for conn := range a.conns {
		_ = conn.SetDeadline(time.Unix(1, 0))
	}
	a.mu.Unlock()
	a.serving.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.images.Close()
	for _, target := range a.files {
		_ = target.Close()
	}
	a.files = nil
}
