package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"drydock/internal/netdump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// OverlayBridge is the bridge that pods hang on where a VXLAN joins them; overlayLink is its port to the other hosts.
const (
	OverlayBridge = "drydock-overlay"
	overlayLink   = "drydock-vxlan"
	overlayLabel  = "drydock overlay"
)

// OverlayOverhead is what a VXLAN over IPv4 takes of each frame: Ethernet, IP, UDP and VXLAN headers.
const OverlayOverhead = 50

// ErrNoVXLAN says that the host's kernel cannot make a VXLAN.
var ErrNoVXLAN = errors.New("the kernel has no VXLAN: load its module (`modprobe vxlan`), or run a kernel with CONFIG_VXLAN")

// Overlay is a VXLAN that joins the pods of several hosts where the network between the hosts does not carry their MACs.
// Frames go to each other host by unicast: what no host has said to have goes to all of them. No multicast is needed.
type Overlay struct {
	VNI   uint32
	Port  uint16     // UDP, the same on every host
	Local netip.Addr // this host's, IPv4
	Peers []netip.Addr
	MTU   int // of the network between the hosts, in bytes
}

// noMAC stands in a VXLAN's forwarding table for every MAC that is not in it.
var noMAC = make(net.HardwareAddr, 6)

// SetOverlay makes this host a part of the VXLAN, or changes what is there to what is asked for. Pods may be plugged into
// OverlayBridge when it returns. It changes nothing where all is as it should be.
func (h *Host) SetOverlay(o Overlay) error {
	if err := o.validate(); err != nil {
		return err
	}
	bridge, err := h.overlayBridge(o.Local)
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	link, err := h.vxlan(o)
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	if err := errors.Join(h.nl.LinkSetAlias(bridge, overlayLabel), quieten(h.ns, h.nl, link)); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	if err := h.enslave(link, OverlayBridge); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	if err := h.nl.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("overlay: set %s up: %w", OverlayBridge, err)
	}
	if err := h.setPeers(link, o); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}

func (o Overlay) validate() error {
	if o.VNI == 0 || o.VNI >= 1<<24 || o.Port == 0 {
		return fmt.Errorf("overlay: VNI %d, port %d: they must be 1 to %d and 1 to 65535", o.VNI, o.Port, 1<<24-1)
	}
	for _, addr := range append([]netip.Addr{o.Local}, o.Peers...) {
		if !addr.Is4() {
			return fmt.Errorf("overlay: %s is no IPv4 address of a host: set the agents' `listen` to one", addr)
		}
	}
	return nil
}

// overlayBridge returns the bridge, made if it is not there. It does not snoop, or it would keep groups from pods.
func (h *Host) overlayBridge(local netip.Addr) (netlink.Link, error) {
	bridge, err := findLink(h.nl, OverlayBridge)
	if err != nil {
		return nil, err
	}
	if bridge == nil {
		snooping := false
		// Its address is given, or it would change with its ports.
		attrs := netlink.LinkAttrs{Name: OverlayBridge, HardwareAddr: outerMAC(OverlayBridge + local.String())}
		if err := h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", OverlayBridge, err)
		}
		return findLink(h.nl, OverlayBridge)
	}
	if bridge.Type() != "bridge" {
		return nil, fmt.Errorf("link %s is a %s and not Drydock's: rename it", OverlayBridge, bridge.Type())
	}
	return bridge, nil
}

// vxlan returns the tunnel, made anew if it is not the one that is asked for.
func (h *Host) vxlan(o Overlay) (netlink.Link, error) {
	link, err := findLink(h.nl, overlayLink)
	if err != nil {
		return nil, err
	}
	mtu := o.MTU - OverlayOverhead
	have, ok := link.(*netlink.Vxlan)
	if ok && have.VxlanId == int(o.VNI) && have.Port == int(o.Port) && have.SrcAddr.Equal(o.Local.AsSlice()) && have.MTU == mtu {
		return link, nil
	}
	if link != nil {
		if link.Attrs().Alias != overlayLabel {
			return nil, fmt.Errorf("link %s is not Drydock's (alias %q): rename it", overlayLink, link.Attrs().Alias)
		}
		if err := h.nl.LinkDel(link); err != nil {
			return nil, fmt.Errorf("remove the former %s: %w", overlayLink, err)
		}
	}
	made := &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: overlayLink, MTU: mtu, HardwareAddr: outerMAC(overlayLink + o.Local.String()), TxQLen: -1},
		VxlanId:   int(o.VNI), Port: int(o.Port), SrcAddr: o.Local.AsSlice(), Learning: true, UDPCSum: true,
	}
	err = h.nl.LinkAdd(made)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("%w (%w)", ErrNoVXLAN, err)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", overlayLink, err)
	}
	if err := h.nl.LinkSetAlias(made, overlayLabel); err != nil {
		return nil, fmt.Errorf("label %s: %w", overlayLink, err)
	}
	return findLink(h.nl, overlayLink)
}

// setPeers makes what is not known to be anywhere go to exactly these hosts, and forgets what was behind others.
func (h *Host) setPeers(link netlink.Link, o Overlay) error {
	entries, err := netdump.Whole(func() ([]netlink.Neigh, error) { return h.nl.NeighList(link.Attrs().Index, unix.AF_BRIDGE) })
	if err != nil {
		return fmt.Errorf("list peers: %w", err)
	}
	present := make(map[netip.Addr]bool)
	for _, entry := range entries {
		addr, ok := netip.AddrFromSlice(entry.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		if slices.Contains(o.Peers, addr) {
			present[addr] = present[addr] || bytes.Equal(entry.HardwareAddr, noMAC)
			continue
		}
		entry.Flags, entry.Family = unix.NTF_SELF, unix.AF_BRIDGE
		if err := h.nl.NeighDel(&entry); err != nil && !isGone(err) {
			return fmt.Errorf("remove peer %s: %w", addr, err)
		}
	}
	for _, addr := range o.Peers {
		if present[addr] {
			continue
		}
		entry := &netlink.Neigh{
			LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF, State: unix.NUD_PERMANENT,
			IP: addr.AsSlice(), HardwareAddr: noMAC,
		}
		if err := h.nl.NeighAppend(entry); err != nil {
			return fmt.Errorf("add peer %s: %w", addr, err)
		}
	}
	return nil
}

// RemoveOverlay takes this host out of the VXLAN. No pod may be plugged into its bridge any more.
func (h *Host) RemoveOverlay() error {
	for _, name := range []string{overlayLink, OverlayBridge} {
		link, err := findLink(h.nl, name)
		if err != nil {
			return err
		}
		if link == nil || link.Attrs().Alias != overlayLabel {
			continue
		}
		if err := h.nl.LinkDel(link); err != nil && !isGone(err) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}

// CheckVXLAN says why the kernel cannot make a VXLAN, or nil. It tries in a namespace of its own.
func CheckVXLAN() error {
	return inFreshNamespace(func() error {
		err := netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: overlayLink}, VxlanId: 1, Port: 4789})
		if err != nil {
			return fmt.Errorf("%w (%w)", ErrNoVXLAN, err)
		}
		return nil
	})
}

// Hang makes the pod's network belong to another bridge of the host. One that is plugged in is plugged in there.
func (n *Network) Hang(bridge string) error {
	if n.cfg.Bridge == bridge {
		return nil
	}
	outer, err := n.outer()
	if err != nil {
		return err
	}
	if err := n.host.nl.LinkSetAlias(outer, label(n.cfg.Pod, bridge)); err != nil {
		return fmt.Errorf("label %s: %w", outer.Attrs().Name, err)
	}
	n.cfg.Bridge = bridge
	if outer.Attrs().MasterIndex == 0 {
		return nil
	}
	return n.host.enslave(outer, bridge)
}
