//go:build root

package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// wire is two hosts and a client on a switch: a bridge on each host, with an uplink to a bridge that learns.
type wire struct {
	a, b   *Host
	client netns.NsHandle
}

const (
	podName    = "ddnt-pod"
	podAddr    = "10.77.0.5"
	podAddr6   = "fd77::5"
	clientAddr = "10.77.0.9"
)

var podMAC = net.HardwareAddr{2, 0xdd, 0, 0, 0, 5}

func podConfig() Config {
	return Config{
		Pod: podName, MAC: podMAC, Bridge: "br0",
		Addresses: []netip.Prefix{netip.MustParsePrefix(podAddr + "/24"), netip.MustParsePrefix(podAddr6 + "/64")},
		Gateway:   netip.MustParseAddr("10.77.0.1"),
	}
}

func newWire(t *testing.T) *wire {
	t.Helper()
	dir := t.TempDir()
	spaces := map[string]*netlink.Handle{}
	handles := map[string]netns.NsHandle{}
	for _, name := range []string{"ddnt-switch", "ddnt-a", "ddnt-b", "ddnt-client"} {
		path := filepath.Join(dir, name)
		must(t, pin(path))
		t.Cleanup(func() { must(t, unpin(path)) })
		ns, handle, done, err := open(path)
		must(t, err)
		t.Cleanup(done)
		spaces[name], handles[name] = handle, ns
		must(t, handle.LinkSetUp(lookUp(t, handle, "lo")))
	}
	bridge(t, spaces["ddnt-switch"], "ddntsw")
	for _, end := range []struct{ ns, port, bridge string }{
		{"ddnt-a", "ddnt1", "br0"}, {"ddnt-b", "ddnt2", "br0"}, {"ddnt-client", "ddnt3", ""},
	} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = end.port
		must(t, spaces["ddnt-switch"].LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(handles[end.ns]),
		}))
		port := lookUp(t, spaces["ddnt-switch"], end.port)
		must(t, spaces["ddnt-switch"].LinkSetMaster(port, lookUp(t, spaces["ddnt-switch"], "ddntsw")))
		must(t, spaces["ddnt-switch"].LinkSetUp(port))
		inner := lookUp(t, spaces[end.ns], "eth0")
		must(t, spaces[end.ns].LinkSetUp(inner))
		if end.bridge != "" {
			bridge(t, spaces[end.ns], end.bridge)
			must(t, spaces[end.ns].LinkSetMaster(inner, lookUp(t, spaces[end.ns], end.bridge)))
		} else {
			must(t, spaces[end.ns].AddrAdd(inner, address(netip.MustParsePrefix(clientAddr+"/24"))))
			must(t, spaces[end.ns].AddrAdd(inner, address(netip.MustParsePrefix("fd77::9/64"))))
		}
	}
	w := &wire{client: handles["ddnt-client"]}
	for _, host := range []struct {
		name string
		to   **Host
	}{{"ddnt-a", &w.a}, {"ddnt-b", &w.b}} {
		h, err := NewHostAt(filepath.Join(dir, "pins", host.name), filepath.Join(dir, host.name))
		must(t, err)
		*host.to = h
		t.Cleanup(func() {
			must(t, h.Remove(context.Background(), podName))
			must(t, h.Close())
		})
	}
	return w
}

func bridge(t *testing.T, handle *netlink.Handle, name string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	must(t, handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	must(t, handle.LinkSetUp(lookUp(t, handle, name)))
}

func lookUp(t *testing.T, handle *netlink.Handle, name string) netlink.Link {
	t.Helper()
	link, err := handle.LinkByName(name)
	must(t, err)
	return link
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *wire) create(t *testing.T, h *Host) *Network {
	t.Helper()
	n, err := h.Create(context.Background(), podConfig())
	must(t, err)
	return n
}

// inPod runs f in the pod's namespace on a host.
func inPod(t *testing.T, n *Network, f func() error) {
	t.Helper()
	ns, _, done, err := open(n.Path())
	must(t, err)
	defer done()
	must(t, within(ns, f))
}

// listenUDP is a socket in the pod that a big burst fits into.
func listenUDP(t *testing.T, n *Network, addr string) net.Conn {
	t.Helper()
	ns, err := netns.GetFromPath(n.Path())
	must(t, err)
	defer ns.Close()
	return listenUDPIn(t, ns, addr)
}

func listenUDPIn(t *testing.T, ns netns.NsHandle, addr string) net.Conn {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			must(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
		})
	}}
	var conn net.PacketConn
	must(t, within(ns, func() (err error) {
		conn, err = config.ListenPacket(context.Background(), "udp", addr)
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return conn.(net.Conn)
}

// dial connects from the client.
func (w *wire) dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	var conn net.Conn
	must(t, within(w.client, func() (err error) {
		conn, err = net.DialTimeout(network, addr, 10*time.Second)
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// sniffer collects the frames from the pod's MAC that reach the client.
type sniffer struct {
	mu     sync.Mutex
	frames [][]byte
}

func (w *wire) sniff(t *testing.T) *sniffer {
	t.Helper()
	_, handle, done, err := openHandle(w.client)
	must(t, err)
	index := lookUp(t, handle, "eth0").Attrs().Index
	done()
	socket, err := openPacket(w.client, index, unix.ETH_P_ALL)
	must(t, err)
	t.Cleanup(func() { socket.Close() })
	s := &sniffer{}
	go readFrames(socket, &flow{}, func(frame []byte) {
		frame = frame[vnetHeader:]
		if bytes.Equal(frame[6:12], podMAC) {
			s.mu.Lock()
			s.frames = append(s.frames, bytes.Clone(frame))
			s.mu.Unlock()
		}
	})
	return s
}

func (s *sniffer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.frames)
}

func openHandle(ns netns.NsHandle) (netns.NsHandle, *netlink.Handle, func(), error) {
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	return ns, handle, func() { handle.Close() }, err
}

// echo answers every TCP connection in the pod with what it receives.
func echo(t *testing.T, n *Network) net.Listener {
	t.Helper()
	var listener net.Listener
	inPod(t, n, func() (err error) {
		listener, err = net.Listen("tcp", ":7000")
		return err
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 256<<10)
				for {
					n, err := conn.Read(buffer)
					if err != nil {
						return
					}
					if _, err := conn.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return listener
}

func numbered(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// readNumbers reads numbers until as many as wanted have come, or nothing comes any more.
func readNumbers(t *testing.T, conn net.Conn, want int) []uint32 {
	t.Helper()
	var got []uint32
	buffer := make([]byte, 64)
	for len(got) < want {
		must(t, conn.SetReadDeadline(time.Now().Add(3*time.Second)))
		n, err := conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got
		}
		must(t, err)
		if n == 4 {
			got = append(got, binary.BigEndian.Uint32(buffer))
		}
	}
	return got
}

// checkNumbers wants each number below total exactly once, and those below held in order.
func checkNumbers(t *testing.T, got []uint32, held, total uint32) {
	t.Helper()
	var first, want []uint32
	for i := range total {
		want = append(want, i)
	}
	for _, n := range got {
		if n < held {
			first = append(first, n)
		}
	}
	if diff := cmp.Diff(want[:held], first); diff != "" {
		t.Errorf("datagrams sent during the hold (-want +got):\n%s", diff)
	}
	sorted := slices.Sorted(slices.Values(got))
	if diff := cmp.Diff(want, sorted); diff != "" {
		t.Errorf("datagrams lost or doubled (-want +got):\n%s", diff)
	}
	if late := inversions(got); late > 0 {
		t.Logf("%d of %d datagrams were overtaken at the handover", late, total)
	}
}

func inversions(got []uint32) (late int) {
	for i := 1; i < len(got); i++ {
		if got[i] < got[i-1] {
			late++
		}
	}
	return late
}

func netDialBroadcast(addr string) (net.Conn, error) {
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1) })
	}}
	return dialer.Dial("udp4", addr)
}

func mountOver(path string) error { return unix.Mount(path, path, "", unix.MS_BIND, "") }
