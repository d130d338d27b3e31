package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// probePrefix begins the names of probes' networks. No pod's name has a dot.
const probePrefix = "drydock.probe."

// ErrForeignMAC says that the network between two hosts does not carry frames of a MAC that is not a host's own.
var ErrForeignMAC = errors.New("the network does not carry a pod's MAC")

// closedPort is one that nothing in a probe's network listens at, so that its kernel refuses a connection there.
const closedPort = 1

// Probe asks whether two hosts could exchange pods: each makes a throwaway network as a pod's, with an address and a MAC that
// are in no other use, and frames must pass between the two, both ways.
type Probe struct {
	// Name tells the probes of a host apart that run at once. With the host's own it also makes the MAC.
	Name string
	// Host is this one's name.
	Host    string
	Bridge  string
	Address netip.Prefix
}

// mac is a locally administered address that no pod has: those begin with another byte.
func (p Probe) mac() net.HardwareAddr {
	sum := sha256.Sum256([]byte(p.Host + "/" + p.Name))
	return append(net.HardwareAddr{0x06, 0x64}, sum[:4]...)
}

// Answer makes the network of a probe, plugged in, which answers until done is called.
func (h *Host) Answer(ctx context.Context, p Probe) (done func() error, err error) {
	_, done, err = h.plugProbe(ctx, p)
	return done, err
}

// Reach finds out whether frames pass between a probe's network here and the one that answers at peer. Without an answer
// before ctx ends, or after the kernel gave up on ARP, the error is ErrForeignMAC.
func (h *Host) Reach(ctx context.Context, p Probe, peer netip.Addr) (err error) {
	n, done, err := h.plugProbe(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	return n.dialFromInside(ctx, netip.AddrPortFrom(peer, closedPort))
}

func (h *Host) plugProbe(ctx context.Context, p Probe) (*Network, func() error, error) {
	name := probePrefix + p.Name
	// The caller's context may be over, and what was made goes in any case.
	done := func() error { return h.Remove(context.WithoutCancel(ctx), name) }
	n, err := h.Create(ctx, Config{Pod: name, Addresses: []netip.Prefix{p.Address}, MAC: p.mac(), Bridge: p.Bridge})
	if err == nil {
		err = n.PlugIn(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return n, done, nil
}

// SweepProbes removes what probes left that ended with their process. It must not be called while one runs.
func (h *Host) SweepProbes(ctx context.Context) error {
	names, err := h.List(ctx)
	for _, name := range names {
		if strings.HasPrefix(name, probePrefix) {
			err = errors.Join(err, h.Remove(ctx, name))
		}
	}
	return err
}

func (n *Network) dialFromInside(ctx context.Context, peer netip.AddrPort) error {
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
			return fmt.Errorf("reach %s from %s: %w (%w)", peer.Addr(), n.cfg.MAC, ErrForeignMAC, err)
		default:
			return fmt.Errorf("reach %s from %s: %w", peer.Addr(), n.cfg.MAC, err)
		}
	})
}
