package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"drydock/internal/netdump"

	"github.com/vishvananda/netlink"
)

// An announcement is repeated, because nobody acknowledges it.
const (
	announceRounds = 3
	announcePause  = 2 * time.Millisecond
)

// announceFromInside says where the pod is through its own interface.
func (n *Network) announceFromInside(ctx context.Context) error {
	ns, handle, done, err := open(n.Path())
	if err != nil {
		return err
	}
	defer done()
	addrs, err := unicastAddresses(handle)
	if err != nil {
		return err
	}
	socket, err := openPacket(ns, innerIndex, 0)
	if err != nil {
		return err
	}
	defer socket.Close()
	return announce(ctx, socket, n.cfg.MAC, addrs)
}

func announce(ctx context.Context, socket *os.File, mac net.HardwareAddr, addrs []netip.Addr) error {
	for round := range announceRounds {
		if round > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(announcePause):
			}
		}
		for _, addr := range addrs {
			for _, frame := range announcement(mac, addr) {
				if err := sendFrame(socket, plain(frame)); err != nil {
					return fmt.Errorf("announce %s at %s: %w", addr, mac, err)
				}
			}
		}
	}
	return nil
}

// unicastAddresses returns the addresses of eth0, those included that the kernel or the pod added.
func unicastAddresses(inside *netlink.Handle) ([]netip.Addr, error) {
	inner, err := inside.LinkByName(innerName)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", innerName, err)
	}
	list, err := netdump.Whole(func() ([]netlink.Addr, error) { return inside.AddrList(inner, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", innerName, err)
	}
	var addrs []netip.Addr
	for _, entry := range list {
		if addr, ok := netip.AddrFromSlice(entry.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}
