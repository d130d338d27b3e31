package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
)

// HoldLimit is how many bytes of frames a hold keeps in each direction. What comes when it is full is dropped and counted.
const HoldLimit = 64 << 20

// What was delivered may still wait in a queue of the processor that delivered it, and be overtaken by what another one
// sends the short way: before the handover nothing must have passed for settle, unless the traffic never pauses that long.
// Before the holding port is taken away nothing must have come to it for quiet. The limits bound these waits.
const (
	settle      = time.Millisecond
	settleLimit = 10 * time.Millisecond
	quiet       = 10 * time.Millisecond
	quietLimit  = 250 * time.Millisecond
)

// ErrDropped says that a hold was released after it had been dropped.
var ErrDropped = errors.New("what was held has been thrown away")

// Hold keeps a pod's packets in both directions while the pod is unplugged on this host: on the destination of a move,
// from before the restore until the pod is plugged in. It lives in this process; Host.Sweep removes what a crash leaves.
type Hold struct {
	network *Network
	addrs   []netip.Addr
	port    netlink.Link // on the bridge
	tap     *os.File     // receives what the bridge sends to the port
	outer   []*os.File   // receive what the unplugged pod sends, one per protocol
	toPod   *os.File
	toNet   *os.File
	in, out flow
	readers sync.WaitGroup

	answered atomic.Int64
	joined   atomic.Bool // the pod is on the bridge, which gives it its broadcasts

	mu   sync.Mutex // held by Announce, Release and Drop
	over bool
	end  error // what a call after the end returns
}

// Stats says what a hold did.
type Stats struct {
	In       Counts `json:"in"`       // to the pod
	Out      Counts `json:"out"`      // from the pod
	Answered int64  `json:"answered"` // questions for the pod's addresses that the holder answered
}

// Hold makes a holding port on the bridge and begins to keep what the unplugged pod sends. Nothing is kept for the pod, and
// nobody is told, before Announce. The pod must be unplugged. What an earlier, crashed hold left is removed first.
func (n *Network) Hold(ctx context.Context) (*Hold, error) {
	plugged, err := n.Plugged()
	if err != nil {
		return nil, err
	}
	if plugged {
		return nil, fmt.Errorf("hold packets of pod %s: it is plugged in: unplug it first", n.cfg.Pod)
	}
	if err := n.host.Sweep(ctx, n.cfg.Pod); err != nil {
		return nil, err
	}
	h := &Hold{network: n, in: flow{limit: HoldLimit}, out: flow{limit: HoldLimit, mode: keeping}}
	if err := h.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("hold packets of pod %s: %w", n.cfg.Pod, err), h.finish(ErrDropped))
	}
	return h, nil
}

// Announce begins to keep what comes for the pod, answers questions for its addresses with its MAC, and tells neighbours and
// switches that the pod is here. Call it as soon as the source is unplugged, not before: the same frames would reach both.
func (h *Hold) Announce(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return h.end
	}
	h.in.keep()
	// What came before is still the source's to answer, so nothing of it may be waiting to be read.
	if err := hear(h.tap); err != nil {
		return fmt.Errorf("hold packets of pod %s: %w", h.network.cfg.Pod, err)
	}
	return announce(ctx, h.toNet, h.network.cfg.MAC, h.addrs)
}

// Precede puts frames that the source has caught before those that are kept. Call it before Release.
func (h *Hold) Precede(frames [][]byte) { h.in.precede(frames) }

// Release plugs the pod in and delivers what was kept, in order. At no moment has a frame nowhere to go:
// first both directions pass through this process, the kept frames ahead of all others; then what the pod sends takes a
// detour inside the kernel while its outer end joins the bridge; then the bridge is told to send the pod's frames there;
// and when nothing comes to the holding port any more, it is removed. Release may be called again: after a failure it goes
// on, after success it returns the same figures, after Drop an error that is ErrDropped.
func (h *Hold) Release(ctx context.Context) (Stats, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return h.Stats(), h.end
	}
	n := h.network
	h.out.pass()
	h.in.pass()
	awaitQuiet(ctx, settle, settleLimit, &h.in, &h.out)
	// From now on the bridge must not take a frame that passes through us for a sign that the pod is behind the holding port.
	if err := n.host.nl.LinkSetLearning(h.port, false); err != nil {
		return h.Stats(), fmt.Errorf("release packets of pod %s: stop learning: %w", n.cfg.Pod, err)
	}
	if err := h.joinWithDetour(ctx); err != nil {
		return h.Stats(), fmt.Errorf("release packets of pod %s: %w", n.cfg.Pod, err)
	}
	if err := n.announceFromInside(ctx); err != nil {
		return h.Stats(), fmt.Errorf("release packets of pod %s: %w", n.cfg.Pod, err)
	}
	awaitQuiet(ctx, quiet, quietLimit, &h.in, &h.out)
	return h.Stats(), h.finish(nil)
}

// Drop throws away what was kept and removes the holding port; the pod stays unplugged. After Release it does nothing.
func (h *Hold) Drop(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil
	}
	return h.finish(ErrDropped)
}

// Stats returns the figures so far.
func (h *Hold) Stats() Stats {
	return Stats{In: h.in.snapshot(), Out: h.out.snapshot(), Answered: h.answered.Load()}
}
