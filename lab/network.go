package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	switchBridge = "sw0"  // in the switch namespace
	uplink       = "eth0" // in every host and in the client
	hostBridge   = "br0"  // in every host
)

// NetNS is the path of the network namespace of a host, of ControllerNode, of ClientNode, or of "switch". A host's
// namespace, and with it this path, ends with the host.
func (l *Lab) NetNS(node string) string { return filepath.Join(l.runDir(), "ns", node) }

// port is the switch's end of a node's link.
func port(node string) string { return "p-" + node }

// mac is the hardware address of a node's interface, the same each time the node starts.
func (l *Lab) mac(node, link string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(l.name + "/" + node + "/" + link))
	return append(net.HardwareAddr{0x02}, sum[:5]...)
}

// makeSwitch makes the switch: a network namespace with a bridge that learns addresses as any switch does, and filters
// nothing.
func (l *Lab) makeSwitch() error {
	if err := newNetNS(l.NetNS(switchNode), silenceBridge); err != nil {
		return err
	}
	return withHandle(l.NetNS(switchNode), func(h *netlink.Handle) error {
		snooping := false
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: switchBridge}, MulticastSnooping: &snooping}
		if err := h.LinkAdd(br); err != nil {
			return fmt.Errorf("make the switch's bridge: %w", err)
		}
		return h.LinkSetUp(br)
	})
}

// makeClient makes the client's namespace and plugs it in.
func (l *Lab) makeClient(ctx context.Context) error {
	if err := makeGroup(filepath.Join(l.group(), ClientNode)); err != nil {
		return err
	}
	return l.makeNetwork(ctx, ClientNode)
}

// makeNetwork makes a network namespace that no process needs to hold, and plugs it in as a node's.
func (l *Lab) makeNetwork(ctx context.Context, node string) error {
	if err := newNetNS(l.NetNS(node), nil); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(l.NetNS(node))
	if err != nil {
		return fmt.Errorf("namespace of %s: %w", node, err)
	}
	defer ns.Close()
	if err := l.plug(node, netlink.NsFd(ns)); err != nil {
		return err
	}
	err = withHandle(l.NetNS(node), func(h *netlink.Handle) error { return l.address(h, uplink, node) })
	if err != nil {
		return err
	}
	return l.awaitLink(ctx, node, l.NetNS(node), uplink)
}

// plugHost gives the host whose init has the given PID its link to the switch, its bridge and its address.
func (l *Lab) plugHost(ctx context.Context, node string, pid int) error {
	if err := l.plug(node, netlink.NsPid(pid)); err != nil {
		return err
	}
	path := fmt.Sprintf("/proc/%d/ns/net", pid)
	err := withHandle(path, func(h *netlink.Handle) error {
		attrs := netlink.LinkAttrs{Name: hostBridge, HardwareAddr: l.mac(node, hostBridge)}
		br := &netlink.Bridge{LinkAttrs: attrs}
		if err := h.LinkAdd(br); err != nil {
			return fmt.Errorf("make the host's bridge: %w", err)
		}
		up, err := h.LinkByName(uplink)
		if err != nil {
			return fmt.Errorf("uplink: %w", err)
		}
		if err := errors.Join(h.LinkSetMaster(up, br), h.LinkSetUp(up)); err != nil {
			return fmt.Errorf("plug the uplink into the host's bridge: %w", err)
		}
		return l.address(h, hostBridge, node)
	})
	if err != nil {
		return err
	}
	return l.awaitLink(ctx, node, path, uplink, hostBridge)
}

// plug makes the link between the switch and the namespace peer. One of the same name that a dead host left goes.
func (l *Lab) plug(node string, peer any) error {
	return withHandle(l.NetNS(switchNode), func(h *netlink.Handle) error {
		if err := deleteLink(h, port(node)); err != nil {
			return err
		}
		br, err := h.LinkByName(switchBridge)
		if err != nil {
			return fmt.Errorf("switch: %w", err)
		}
		veth := &netlink.Veth{
			LinkAttrs:        netlink.LinkAttrs{Name: port(node), MasterIndex: br.Attrs().Index},
			PeerName:         uplink,
			PeerHardwareAddr: l.mac(node, uplink),
			PeerNamespace:    peer,
		}
		if err := h.LinkAdd(veth); err != nil {
			return fmt.Errorf("link %s to the switch: %w", node, err)
		}
		if l.rec.PortSecurity {
			if err := l.securePort(node); err != nil {
				return fmt.Errorf("port security of %s: %w", node, err)
			}
		}
		return h.LinkSetUp(veth)
	})
}

// awaitLink waits until frames pass between a node, whose namespace is at path, and the switch: a bridge lets a port
// take part only once the kernel has noticed its carrier, for which it takes up to a second.
func (l *Lab) awaitLink(ctx context.Context, node, path string, links ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	up := func(path string, links ...string) error {
		return withHandle(path, func(h *netlink.Handle) error {
			return waitFor(ctx, "the link of "+node, func() bool {
				return !slices.ContainsFunc(links, func(name string) bool {
					link, err := h.LinkByName(name)
					return err != nil || link.Attrs().OperState != netlink.OperUp
				})
			})
		})
	}
	return errors.Join(up(l.NetNS(switchNode), port(node)), up(path, links...))
}

// unplug removes a node's link; both ends go at once.
func (l *Lab) unplug(node string) error {
	return withHandle(l.NetNS(switchNode), func(h *netlink.Handle) error { return deleteLink(h, port(node)) })
}

// address brings the link and loopback up, with the node's address.
func (l *Lab) address(h *netlink.Handle, link, node string) error {
	dev, err := h.LinkByName(link)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", link, node, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(l.Address(node)), Mask: net.CIDRMask(networkBits, 32)}}
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = errors.Join(h.LinkSetUp(lo), h.AddrReplace(dev, addr), h.LinkSetUp(dev))
	}
	if err != nil {
		return fmt.Errorf("address of %s: %w", node, err)
	}
	return nil
}

// newNetNS makes a network namespace that lives as long as it is bound to path, runs setup in it, and binds it.
func newNetNS(path string, setup func() error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("namespace: %w", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("namespace: %w", err)
	}
	err := onOwnThread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil && setup != nil {
			err = setup()
		}
		if err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	return nil
}

// onOwnThread calls do on a thread that ends with it, so that do may leave the thread in another namespace. The main
// thread never ends, and is therefore kept busy when it is the one that comes up.
func onOwnThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onOwnThread(do)
			return
		}
		done <- do()
	}()
	return <-done
}

// silenceBridge keeps the thread's network namespace from filtering bridged frames, and from speaking itself.
func silenceBridge() error {
	for _, file := range []string{
		"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables", "bridge/bridge-nf-call-arptables",
	} {
		err := os.WriteFile(filepath.Join("/proc/sys/net", file), []byte("0"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// withHandle calls do with a netlink socket in the network namespace at path.
func withHandle(path string, do func(*netlink.Handle) error) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer h.Close()
	return do(h)
}

func deleteLink(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

// waitFor calls ready every few milliseconds until it is true or ctx ends.
func waitFor(ctx context.Context, what string, ready func() bool) error {
	for !ready() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
	}
	return nil
}

// InNetNS calls do on a thread that is in the network namespace of a host, of ControllerNode, of ClientNode, or of
// "switch". Sockets that do makes stay there; goroutines that it starts do not.
func (l *Lab) InNetNS(node string, do func() error) error {
	path := l.NetNS(node)
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer ns.Close()
	return onOwnThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("namespace %s: %w", path, err)
		}
		return do()
	})
}
