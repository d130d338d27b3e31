package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// probeName is the pod name of a probe's network. A crashed probe is found by List and taken away by Remove under it.
const probeName = "drydock-probe"

// ErrForeignMAC says that the network between two hosts does not carry frames of a MAC that is not a host's own.
var ErrForeignMAC = errors.New("the network does not carry a pod's MAC: allow several MACs on the switch port, or use VXLAN")

// ProbeForeignMAC finds out whether a pod on this host could talk to peer: it plugs a throwaway network with the given
// address and MAC into the bridge and opens a TCP connection to peer, which must be on the same link or behind a default
// route. That the peer refuses the connection is an answer too. Without an answer before ctx ends, or after the kernel gave
// up on ARP, the error is ErrForeignMAC. Address and MAC must not be in use; only one probe runs on a host at a time.
func (h *Host) ProbeForeignMAC(ctx context.Context, bridge string, addr netip.Prefix, mac net.HardwareAddr, peer netip.AddrPort) error {
	n, err := h.Create(ctx, Config{Pod: probeName, Addresses: []netip.Prefix{addr}, MAC: mac, Bridge: bridge})
	if err == nil {
		err = n.dialFromInside(ctx, peer)
	}
	// The caller's context may be over, and what was made goes in any case.
	return errors.Join(err, h.Remove(context.WithoutCancel(ctx), probeName))
}

func (n *Network) dialFromInside(ctx context.Context, peer netip.AddrPort) error {
	if err := n.PlugIn(ctx); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(n.Path())
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", n.Path(), err)
	}
	defer ns.Close()
	return within(ns, func() error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", peer.String())
		switch {
		case err == nil:
			return conn.Close()
		case errors.Is(err, unix.ECONNREFUSED):
			return nil
		case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.ETIMEDOUT):
			return fmt.Errorf("reach %s from %s: %w (%w)", peer, n.cfg.MAC, ErrForeignMAC, err)
		default:
			return fmt.Errorf("reach %s from %s: %w", peer, n.cfg.MAC, err)
		}
	})
}
