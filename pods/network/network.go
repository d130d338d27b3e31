package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"drydock/internal/netdump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// innerName and innerIndex are the pod's interface. Its index is the same on every host, because sockets, routes and
// multicast memberships name interfaces by index.
const (
	innerName  = "eth0"
	innerIndex = 100
)

// Network is the network of one pod on one host.
type Network struct {
	host *Host
	cfg  Config
}

// Path returns where the namespace is pinned.
func (n *Network) Path() string { return filepath.Join(n.host.dir, n.cfg.Pod) }

// Config returns the network's configuration.
func (n *Network) Config() Config { return n.cfg }

// Plugged tells whether the pod is a port of a bridge.
func (n *Network) Plugged() (bool, error) {
	outer, err := n.outer()
	if err != nil {
		return false, err
	}
	return outer.Attrs().MasterIndex != 0, nil
}

// PlugIn makes the pod a port of its bridge and tells the neighbours where it is. It announces again when the pod is
// plugged in already.
func (n *Network) PlugIn(ctx context.Context) error {
	if err := n.join(ctx); err != nil {
		return fmt.Errorf("plug in pod %s: %w", n.cfg.Pod, err)
	}
	if err := n.announceFromInside(ctx); err != nil {
		return fmt.Errorf("announce pod %s: %w", n.cfg.Pod, err)
	}
	return nil
}

// join makes the outer end a port of the bridge and tells the bridge that the pod's MAC is there.
func (n *Network) join(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	outer, err := n.outer()
	if err != nil {
		return err
	}
	if err := n.host.enslave(outer, n.cfg.Bridge); err != nil {
		return err
	}
	return n.host.learn(outer, n.cfg.MAC)
}

// Unplug takes the pod off its bridge. When it returns, no frame of the pod is on its way through the bridge and none will
// get there. The interface keeps its carrier: taking that away would empty the pod's neighbour table.
func (n *Network) Unplug(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	outer, err := n.outer()
	if err != nil {
		return err
	}
	if outer.Attrs().MasterIndex == 0 {
		return nil
	}
	if err := n.host.nl.LinkSetNoMaster(outer); err != nil {
		return fmt.Errorf("unplug pod %s: %w", n.cfg.Pod, err)
	}
	return nil
}

func (n *Network) outer() (netlink.Link, error) {
	link, err := findLink(n.host.nl, outerName(n.cfg.Pod))
	if err != nil {
		return nil, err
	}
	if link == nil {
		return nil, fmt.Errorf("pod %s has no link %s: %w", n.cfg.Pod, outerName(n.cfg.Pod), ErrNotFound)
	}
	return link, nil
}

// wire makes the two ends of the pod's interface, each step only if it is not done yet.
func (n *Network) wire() error {
	ns, handle, done, err := open(n.Path())
	if err != nil {
		return err
	}
	defer done()
	inner, err := n.veth(handle)
	if err != nil {
		return err
	}
	outer, err := n.outer()
	if err != nil {
		return err
	}
	if err := n.host.nl.LinkSetAlias(outer, label(n.cfg.Pod, n.cfg.Bridge)); err != nil {
		return fmt.Errorf("label %s: %w", outer.Attrs().Name, err)
	}
	if err := quieten(n.host.ns, n.host.nl, outer); err != nil {
		return err
	}
	if err := n.host.nl.LinkSetUp(outer); err != nil {
		return fmt.Errorf("set %s up: %w", outer.Attrs().Name, err)
	}
	if err := n.configure(ns, handle, inner); err != nil {
		return err
	}
	return errors.Join(awaitUp(n.host.nl, outer.Attrs().Name), awaitUp(handle, innerName))
}

// veth returns eth0, made if it is not there.
func (n *Network) veth(inside *netlink.Handle) (netlink.Link, error) {
	inner, err := findLink(inside, innerName)
	if err != nil || inner != nil {
		return inner, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index, attrs.MTU, attrs.HardwareAddr = innerName, innerIndex, n.cfg.mtu(), n.cfg.MAC
	name := outerName(n.cfg.Pod)
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: name, PeerHardwareAddr: outerMAC(name), PeerNamespace: netlink.NsFd(n.host.ns),
	}
	if err := inside.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("make %s and %s: %w", innerName, name, err)
	}
	return findLink(inside, innerName)
}

// configure brings lo and eth0 up with the pod's addresses. Addresses are given out by the controller, so duplicate address
// detection would only delay the first packet.
func (n *Network) configure(ns netns.NsHandle, handle *netlink.Handle, inner netlink.Link) error {
	err := within(ns, func() error {
		return writeIfExists("/proc/sys/net/ipv6/conf/"+innerName+"/accept_dad", "0")
	})
	if err != nil {
		return err
	}
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look up lo: %w", err)
	}
	for _, link := range []netlink.Link{lo, inner} {
		if err := handle.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", link.Attrs().Name, err)
		}
	}
	for _, prefix := range n.cfg.Addresses {
		if err := handle.AddrReplace(inner, address(prefix)); err != nil {
			return fmt.Errorf("give %s to %s: %w", prefix, innerName, err)
		}
	}
	if !n.cfg.Gateway.IsValid() {
		return nil
	}
	route := &netlink.Route{LinkIndex: inner.Attrs().Index, Gw: n.cfg.Gateway.AsSlice()}
	if err := handle.RouteReplace(route); err != nil {
		return fmt.Errorf("route through %s: %w", n.cfg.Gateway, err)
	}
	return nil
}

func address(prefix netip.Prefix) *netlink.Addr {
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

// readConfig finds the configuration back from the namespace and the label.
func (n *Network) readConfig() (Config, error) {
	outer, err := n.outer()
	if err != nil {
		return Config{}, err
	}
	pod, bridge, ok := parseLabel(outer.Attrs().Alias)
	if !ok || pod != n.cfg.Pod {
		return Config{}, fmt.Errorf("link %s has no label of pod %s: create the network again", outer.Attrs().Name, n.cfg.Pod)
	}
	_, handle, done, err := open(n.Path())
	if err != nil {
		return Config{}, err
	}
	defer done()
	inner, err := handle.LinkByName(innerName)
	if err != nil {
		return Config{}, fmt.Errorf("look up %s: %w", innerName, err)
	}
	cfg := Config{Pod: pod, Bridge: bridge, MAC: inner.Attrs().HardwareAddr, MTU: inner.Attrs().MTU}
	addrs, err := netdump.Whole(func() ([]netlink.Addr, error) { return handle.AddrList(inner, netlink.FAMILY_ALL) })
	if err != nil {
		return Config{}, fmt.Errorf("list addresses of %s: %w", innerName, err)
	}
	for _, addr := range addrs {
		if ip, ok := netip.AddrFromSlice(addr.IP); ok && !ip.IsLinkLocalUnicast() {
			bits, _ := addr.Mask.Size()
			cfg.Addresses = append(cfg.Addresses, netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	cfg.Gateway, err = defaultGateway(handle, inner)
	return cfg, err
}

func defaultGateway(handle *netlink.Handle, inner netlink.Link) (netip.Addr, error) {
	routes, err := netdump.Whole(func() ([]netlink.Route, error) { return handle.RouteList(inner, netlink.FAMILY_ALL) })
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list routes of %s: %w", innerName, err)
	}
	for _, route := range routes {
		gateway, ok := netip.AddrFromSlice(route.Gw)
		if ok && (route.Dst == nil || isDefault(route.Dst)) {
			return gateway.Unmap(), nil
		}
	}
	return netip.Addr{}, nil
}

func isDefault(dst *net.IPNet) bool {
	ones, _ := dst.Mask.Size()
	return ones == 0 && dst.IP.IsUnspecified()
}

func writeIfExists(path, value string) error {
	err := os.WriteFile(path, []byte(value), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func isGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}
