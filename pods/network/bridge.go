package network

import (
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// quieten keeps the host's own stack out of a link that carries a pod's frames: it neither answers ARP nor speaks IPv6 on
// it, and drops what a pod that is not plugged in sends, as coming from where its source address is not routed.
func quieten(ns netns.NsHandle, handle *netlink.Handle, link netlink.Link) error {
	name := link.Attrs().Name
	if err := handle.LinkSetARPOff(link); err != nil {
		return fmt.Errorf("switch ARP off on %s: %w", name, err)
	}
	return within(ns, func() error {
		settings := map[string]string{
			"/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6": "1",
			"/proc/sys/net/ipv4/conf/" + name + "/rp_filter":    "1",
			"/proc/sys/net/ipv4/conf/" + name + "/forwarding":   "0",
		}
		for path, value := range settings {
			if err := writeIfExists(path, value); err != nil {
				return fmt.Errorf("keep the host's stack off %s: %w", name, err)
			}
		}
		return nil
	})
}

// awaitUp waits until a link that was set up also carries frames. The end of a pair that comes up first drops what it is
// given, until the kernel has noticed in a worker of its own that the other end is there.
func awaitUp(handle *netlink.Handle, name string) error {
	const attempts = 2000 // of 1 ms
	for range attempts {
		link, err := handle.LinkByName(name)
		if err != nil {
			return fmt.Errorf("look up %s: %w", name, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("link %s does not come up: its other end is down or missing", name)
}

// enslave makes link an up port of the named bridge.
func (h *Host) enslave(link netlink.Link, bridge string) error {
	master, err := findLink(h.nl, bridge)
	if err != nil {
		return err
	}
	if master == nil || master.Type() != "bridge" {
		return fmt.Errorf("host has no bridge %s: create it, or correct the configured name", bridge)
	}
	if link.Attrs().MasterIndex != master.Attrs().Index {
		if err := h.nl.LinkSetMaster(link, master); err != nil {
			return fmt.Errorf("make %s a port of %s: %w", link.Attrs().Name, bridge, err)
		}
	}
	if err := h.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", link.Attrs().Name, err)
	}
	return nil
}

// learn tells the bridge that mac is behind port, as if it had received a frame from there: the entry ages and moves like
// any other.
func (h *Host) learn(port netlink.Link, mac net.HardwareAddr) error {
	entry := &netlink.Neigh{
		LinkIndex: port.Attrs().Index, Family: unix.AF_BRIDGE, Flags: unix.NTF_MASTER, State: unix.NUD_REACHABLE, HardwareAddr: mac,
	}
	if err := h.nl.NeighSet(entry); err != nil {
		return fmt.Errorf("tell the bridge that %s is behind %s: %w", mac, port.Attrs().Name, err)
	}
	return nil
}
