package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// CatchLimit is how many bytes of frames a Catch keeps: what a fast sender has on its way in the moment that it is for.
const CatchLimit = 4 << 20

// Catch keeps, on the source of a move, what still comes for the pod between its unplugging and the announcement of the
// destination. What got lost then would come again only after a fifth of a second, the least that Linux waits to repeat a TCP
// segment (TCP_RTO_MIN), and a client would wait that long although the pod is frozen for less. It lives in this process;
// Host.Sweep removes what a crash leaves.
type Catch struct {
	network *Network
	tap     *os.File
	in      flow
	readers sync.WaitGroup
}

// Catch makes a holding port on the bridge. The bridge sends it nothing of the pod's as long as that is plugged in, and what
// to the port comes before Begin is not kept.
func (n *Network) Catch(ctx context.Context) (*Catch, error) {
	if err := n.host.Sweep(ctx, n.cfg.Pod); err != nil {
		return nil, err
	}
	c := &Catch{network: n, in: flow{limit: CatchLimit}}
	if err := c.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("catch packets of pod %s: %w", n.cfg.Pod, err), c.Drop())
	}
	return c, nil
}

func (c *Catch) open() error {
	n := c.network
	port, tap, err := n.makeHoldingPort()
	if err != nil {
		return err
	}
	if c.tap, err = openPacket(n.host.ns, tap.Attrs().Index, unix.ETH_P_ALL); err != nil {
		return fmt.Errorf("%s: %w", tap.Attrs().Name, err)
	}
	if err := deafen(c.tap); err != nil {
		return fmt.Errorf("%s: keep frames from coming: %w", tap.Attrs().Name, err)
	}
	c.readers.Go(func() {
		readFrames(c.tap, &c.in, func(buffer []byte) {
			if concerns(buffer[vnetHeader:], n.cfg.MAC) {
				c.in.accept(buffer)
			}
		})
	})
	if err := n.host.enslave(port, n.cfg.Bridge); err != nil {
		return err
	}
	return errors.Join(awaitUp(n.host.nl, port.Attrs().Name), awaitUp(n.host.nl, tap.Attrs().Name))
}

// Begin makes the catch keep what comes for the pod's MAC. Call it right before the pod is unplugged: the bridge forgets then
// where the MAC is, and sends what comes for it to every port. Broadcasts are sent there all the time, and are still the pod's.
func (c *Catch) Begin() error {
	c.in.keep()
	if err := hearAddressed(c.tap); err != nil {
		return fmt.Errorf("catch packets of pod %s: %w", c.network.cfg.Pod, err)
	}
	return nil
}

// Unplugged makes the catch keep broadcasts too. Call it once the pod is unplugged: it would get twice, here and at the
// destination, and answer twice, what came to it before.
func (c *Catch) Unplugged() error {
	if err := hear(c.tap); err != nil {
		return fmt.Errorf("catch broadcasts for pod %s: %w", c.network.cfg.Pod, err)
	}
	return nil
}

// Frames are what was kept so far, in order, for Hold.Precede at the destination.
func (c *Catch) Frames() [][]byte {
	if c == nil {
		return nil
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return append([][]byte(nil), c.in.kept...)
}

// Drop throws away what was kept and removes the holding port. It may be called again, and without a Catch.
func (c *Catch) Drop() error {
	if c == nil {
		return nil
	}
	c.in.end()
	n := c.network
	if err := n.host.deleteLink(n.cfg.Pod, holdName(n.cfg.Pod)); err != nil {
		return err
	}
	closeAll(c.tap)
	c.readers.Wait()
	return nil
}
