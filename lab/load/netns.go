package load

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Dialer opens connections and starts programs inside the network namespace at the path Netns, or in the caller's own
// if that is empty. A socket belongs to its namespace for life, so only the opening needs a thread in there.
type Dialer struct {
	Netns string
}

// DialContext connects to an address and port. Names are not resolved.
func (d Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial %s: give an IP address and a port: %w", address, err)
	}
	var conn net.Conn
	err := d.do(func() error {
		var err error
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial from %s: %w", d, err)
	}
	return conn, nil
}

// Start starts a program inside the namespace.
func (d Dialer) Start(cmd *exec.Cmd) error {
	if err := d.do(cmd.Start); err != nil {
		return fmt.Errorf("start %s in %s: %w", cmd.Path, d, err)
	}
	return nil
}

// Connections lists the local ports of the TCP connections in the namespace that are established with the server, sorted.
// A port that is listed before and after a move, and was held open in between, belongs to the same connection.
func (d Dialer) Connections(server netip.AddrPort) ([]uint16, error) {
	family := uint8(unix.AF_INET)
	if server.Addr().Is6() {
		family = unix.AF_INET6
	}
	const established = 1
	var ports []uint16
	err := d.do(func() error {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return err
		}
		for _, s := range sockets {
			peer, _ := netip.AddrFromSlice(s.ID.Destination)
			if s.State == established && netip.AddrPortFrom(peer.Unmap(), s.ID.DestinationPort) == server {
				ports = append(ports, s.ID.SourcePort)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the connections of %s with %s: %w", d, server, err)
	}
	slices.Sort(ports)
	return ports, nil
}

// String names the namespace for errors.
func (d Dialer) String() string {
	if d.Netns == "" {
		return "the own network namespace"
	}
	return "network namespace " + d.Netns
}

// do calls f on a thread that is inside the namespace. A thread that cannot be brought back is not used again.
func (d Dialer) do(f func() error) error {
	if d.Netns == "" {
		return f()
	}
	target, err := os.Open(d.Netns)
	if err != nil {
		return err
	}
	defer target.Close()
	runtime.LockOSThread()
	own, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter: %w", err)
	}
	err = f()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("leave: %w", back)
	}
	runtime.UnlockOSThread()
	return err
}
