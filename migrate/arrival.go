package migrate

import (
	"context"
	"encoding/json"
	"fmt"
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
	mu        sync.Mutex
	migration string
	images    *transfer.ImageReceiver
	hold      *network.Hold
	loopback  *network.LoopbackHold
	// restore is the one that runs or waits.
	restore *early
	// descriptors are runc's, by container.
	descriptors map[string][]byte
	// events go to the source, for as long as it listens.
	events  chan string
	settled bool
	// source ends when the source has hung up.
	source context.Context
	// files are the directories that were brought over.
	files []*filesync.Target
}

// Events of a destination, in order.
const (
	eventRestored = "restored"
	eventRunning  = "running"
	eventSettled  = "settled"
)

func (p *place) tell(event string) {
	if p.coming == nil {
		return
	}
	select {
	case p.coming.events <- event:
	default:
	}
}

func (p *place) settled() {
	if p.coming != nil {
		p.coming.settled = true
	}
	p.tell(eventSettled)
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
	e.place(pod).coming = coming
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

// arriving tells that a pod runs here by post-copy and has not settled.
func (e *Engine) arriving(req *drydockv1.ReceiveRestoreRequest) bool {
	j, err := e.journals.load(req.Pod)
	return err == nil && j.PostCopy && j.Side == owner.Destination && j.Migration == req.Migration && j.Stage == owner.PluggedIn
}

func (e *Engine) endArrival(ctx context.Context, pod string) {
	p := e.place(pod)
	coming := p.coming
	if coming == nil {
		return
	}
	if coming.restore != nil {
		coming.restore.giveUp()
		_ = coming.restore.restores.Wait()
	}
	coming.fallSilent(ctx)
	coming.close()
	p.coming = nil
}

// fallSilent throws away the packets that were held, and answers no more for the pod's address. It needs nothing but the
// kernel, and may be called again.
func (a *arrival) fallSilent(ctx context.Context) {
	if a.loopback != nil {
		_ = a.loopback.Drop(ctx)
	}
	if a.hold != nil {
		_ = a.hold.Drop(ctx)
	}
}

// close lets go of the directories that were received into.
func (a *arrival) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.images.Close()
	for _, target := range a.files {
		_ = target.Close()
	}
	a.files = nil
}
