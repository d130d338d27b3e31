package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"drydock/internal/netdump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Address is an address of lo or eth0 that is not there of itself.
type Address struct {
	Link      string       `json:"link"`
	Prefix    netip.Prefix `json:"prefix"`
	Peer      netip.Prefix `json:"peer,omitzero"` // other end, of a point-to-point address
	Broadcast netip.Addr   `json:"broadcast,omitzero"`
	Scope     int          `json:"scope,omitempty"`
	Label     string       `json:"label,omitempty"`
	Valid     int          `json:"valid,omitempty"` // seconds that it is valid, 0 is for ever
	Preferred int          `json:"preferred,omitempty"`
	Flags     int          `json:"flags,omitempty"`
}

// keptFlags are the address flags that somebody chose; the others say what the kernel made of it.
const keptFlags = unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

// Neighbor is an entry of the neighbour table of eth0.
type Neighbor struct {
	Addr      netip.Addr `json:"addr"`
	MAC       string     `json:"mac"`
	Permanent bool       `json:"permanent,omitempty"`
	Flags     int        `json:"flags,omitempty"`
}

// known is what a neighbour's state must have in common with for its MAC to be worth keeping.
const known = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT

// refuseLinks returns an error if somebody made a link in the namespace. Those that are down come from the kernel itself,
// which puts a tunnel of each kind into every new namespace, or do nothing.
func refuseLinks(handle *netlink.Handle) error {
	links, err := netdump.Whole(handle.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		switch name := link.Attrs().Name; {
		case name == "lo", name == innerName, name == loopbackIn, name == loopbackOut:
		case link.Attrs().RawFlags&unix.IFF_UP != 0:
			return fmt.Errorf("it has a %s link %s of its own, which cannot be moved: remove it", link.Type(), name)
		}
	}
	return nil
}

func saveAddresses(handle *netlink.Handle) ([]Address, error) {
	var saved []Address
	for _, name := range []string{"lo", innerName} {
		link, err := handle.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", name, err)
		}
		addrs, err := netdump.Whole(func() ([]netlink.Addr, error) { return handle.AddrList(link, netlink.FAMILY_ALL) })
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", name, err)
		}
		for _, addr := range addrs {
			entry := Address{
				Link: name, Prefix: prefixOf(addr.IPNet.IP, addr.Mask), Scope: addr.Scope, Label: addr.Label,
				Flags: addr.Flags & keptFlags,
			}
			if addr.Peer != nil {
				entry.Peer = prefixOf(addr.Peer.IP, addr.Peer.Mask)
			}
			if broadcast, ok := netip.AddrFromSlice(addr.Broadcast); ok {
				entry.Broadcast = broadcast.Unmap()
			}
			if addr.Flags&unix.IFA_F_PERMANENT == 0 {
				entry.Valid, entry.Preferred = addr.ValidLft, addr.PreferedLft
			}
			saved = append(saved, entry)
		}
	}
	return saved, nil
}

// loadAddresses adds what is missing. Nothing is taken away: the configuration gave the rest.
func loadAddresses(handle *netlink.Handle, addrs []Address) error {
	present, err := saveAddresses(handle)
	if err != nil {
		return err
	}
	for _, entry := range addrs {
		if slices.Contains(present, entry) { // replacing it would give it another route
			continue
		}
		link, err := handle.LinkByName(entry.Link)
		if err != nil {
			return fmt.Errorf("look up %s: %w", entry.Link, err)
		}
		addr := address(entry.Prefix)
		addr.Flags |= entry.Flags
		addr.Scope, addr.Label, addr.ValidLft, addr.PreferedLft = entry.Scope, entry.Label, entry.Valid, entry.Preferred
		if entry.Peer.IsValid() {
			addr.Peer = ipNet(entry.Peer)
		}
		addr.Broadcast = net.IPv4zero // none, rather than the one that the library would make up
		if entry.Broadcast.IsValid() {
			addr.Broadcast = entry.Broadcast.AsSlice()
		}
		if err := handle.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("give %s to %s: %w", entry.Prefix, entry.Link, err)
		}
	}
	return nil
}

func saveNeighbors(handle *netlink.Handle) ([]Neighbor, error) {
	list, err := netdump.Whole(func() ([]netlink.Neigh, error) { return handle.NeighList(innerIndex, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var saved []Neighbor
	for _, entry := range list {
		addr, ok := netip.AddrFromSlice(entry.IP)
		if !ok || entry.State&known == 0 || len(entry.HardwareAddr) == 0 {
			continue
		}
		saved = append(saved, Neighbor{
			Addr: addr.Unmap(), MAC: entry.HardwareAddr.String(), Permanent: entry.State&unix.NUD_PERMANENT != 0, Flags: entry.Flags,
		})
	}
	slices.SortFunc(saved, func(a, b Neighbor) int { return a.Addr.Compare(b.Addr) })
	return saved, nil
}

// loadNeighbors sets entries as stale: such a one is used at once, and confirmed by a question to that neighbour alone.
func loadNeighbors(handle *netlink.Handle, neighbors []Neighbor) error {
	for _, entry := range neighbors {
		mac, err := parseMAC(entry.MAC)
		if err != nil {
			return fmt.Errorf("neighbour %s: %w", entry.Addr, err)
		}
		state := unix.NUD_STALE
		if entry.Permanent {
			state = unix.NUD_PERMANENT
		}
		err = handle.NeighSet(&netlink.Neigh{
			LinkIndex: innerIndex, IP: entry.Addr.AsSlice(), HardwareAddr: mac, State: state, Flags: entry.Flags,
		})
		if err != nil {
			return fmt.Errorf("set neighbour %s at %s: %w", entry.Addr, mac, err)
		}
	}
	return nil
}
