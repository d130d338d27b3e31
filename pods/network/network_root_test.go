//go:build root

package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
)

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never seen: %s", what)
}

func hasNeighbor(t *testing.T, handle *netlink.Handle, index int, addr netip.Addr) bool {
	t.Helper()
	list, err := handle.NeighList(index, netlink.FAMILY_ALL)
	must(t, err)
	return slices.ContainsFunc(list, func(n netlink.Neigh) bool {
		return n.IP.Equal(addr.AsSlice()) && n.HardwareAddr.String() == podMAC.String()
	})
}

func flushNeighbors(handle *netlink.Handle, index int) error {
	list, err := handle.NeighList(index, netlink.FAMILY_ALL)
	for _, n := range list {
		if n.State != netlink.NUD_NOARP {
			err = errors.Join(err, handle.NeighDel(&n))
		}
	}
	return err
}

// loadNeighbor tells the pod where the client is.
func loadNeighbor(t *testing.T, n *Network, w *wire) {
	t.Helper()
	_, client, done, err := openHandle(w.client)
	must(t, err)
	defer done()
	_, inside, finished, err := open(n.Path())
	must(t, err)
	defer finished()
	must(t, inside.NeighSet(&netlink.Neigh{
		LinkIndex: innerIndex, IP: netip.MustParseAddr(clientAddr).AsSlice(), State: netlink.NUD_STALE,
		HardwareAddr: lookUp(t, client, "eth0").Attrs().HardwareAddr,
	}))
}

func TestCreateIsIdempotentAndFoundAgain(t *testing.T) {
	w := newWire(t)
	ctx := t.Context()
	n := w.create(t, w.a)
	w.create(t, w.a)
	if plugged, err := n.Plugged(); err != nil || plugged {
		t.Errorf("plugged in after create: %v, %v", plugged, err)
	}
	pods, err := w.a.List(ctx)
	must(t, err)
	if diff := cmp.Diff([]string{podName}, pods); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	opened, err := w.a.Open(ctx, podName)
	must(t, err)
	want := podConfig()
	want.MTU = defaultMTU
	if diff := cmp.Diff(want, opened.Config(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("configuration found again (-want +got):\n%s", diff)
	}
}

func TestRemoveLeavesNothingAfterACrashAtAnyPoint(t *testing.T) {
	w := newWire(t)
	ctx := context.Background()
	linksBefore, err := w.a.nl.LinkList()
	must(t, err)
	path := filepath.Join(w.a.dir, podName)
	stages := map[string]func(){
		"nothing made":  func() {},
		"only the file": func() { must(t, os.MkdirAll(w.a.dir, 0o755)); must(t, os.WriteFile(path, nil, 0o444)) },
		"only pinned":   func() { must(t, pin(path)) },
		"not labelled":  func() { n := w.create(t, w.a); o, _ := n.outer(); must(t, w.a.nl.LinkSetAlias(o, "")) },
		"whole":         func() { w.create(t, w.a) },
		"plugged in":    func() { must(t, w.create(t, w.a).PlugIn(ctx)) },
		"held":          func() { _, err := w.create(t, w.a).Hold(ctx); must(t, err) },
		"on the detour": func() {
			hold, err := w.create(t, w.a).Hold(ctx)
			must(t, err)
			must(t, nft(ctx, w.a.ns, "table netdev "+detourTable(podName)+" {\n}\n"))
			closeAll(hold.outer...)
		},
		"loopback held": func() { _, err := w.create(t, w.a).HoldLoopback(ctx); must(t, err) },
		"pinned twice":  func() { w.create(t, w.a); must(t, mountOver(path)) },
	}
	for name, make := range stages {
		t.Run(name, func(t *testing.T) {
			make()
			must(t, w.a.Remove(ctx, podName))
			must(t, w.a.Remove(ctx, podName))
			links, err := w.a.nl.LinkList()
			must(t, err)
			if len(links) != len(linksBefore) {
				t.Errorf("%d links before, %d after", len(linksBefore), len(links))
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there: %v", path, err)
			}
			if tables, err := tableNames(w.a.ns); err != nil || len(tables) != 0 {
				t.Errorf("tables after remove: %v, %v", tables, err)
			}
			if pods, err := w.a.List(ctx); err != nil || len(pods) != 0 {
				t.Errorf("list after remove: %v, %v", pods, err)
			}
			if _, err := w.a.Open(ctx, podName); !errors.Is(err, ErrNotFound) {
				t.Errorf("open after remove: %v, want ErrNotFound", err)
			}
		})
	}
}

func TestALinkOfAnotherPodIsNotTouched(t *testing.T) {
	w := newWire(t)
	n := w.create(t, w.a)
	outer, err := n.outer()
	must(t, err)
	must(t, w.a.nl.LinkSetAlias(outer, label("ddnt-other", "br0")))
	if err := w.a.Remove(t.Context(), podName); err == nil {
		t.Error("a link labelled with another pod's name was removed")
	}
	must(t, w.a.nl.LinkSetAlias(outer, label(podName, "br0")))
}

func TestAnUnpluggedPodLeaksNothing(t *testing.T) {
	w := newWire(t)
	ctx := t.Context()
	n := w.create(t, w.a)
	must(t, n.PlugIn(ctx))
	listener := echo(t, n)
	conn := w.dial(t, "tcp", podAddr+":7000")
	_, err := conn.Write([]byte("x"))
	must(t, err)
	_, err = conn.Read(make([]byte, 1))
	must(t, err)
	must(t, n.Unplug(ctx))
	must(t, n.Unplug(ctx))
	seen := w.sniff(t)
	// What a killed pod would send: FIN of its connections, RST to what still comes, and anything else.
	listener.Close()
	_, _ = conn.Write([]byte("y"))
	inPod(t, n, func() error {
		for _, to := range []string{clientAddr + ":1", "10.77.0.255:1", "224.0.0.251:5353"} {
			if c, err := netDialBroadcast(to); err == nil {
				_, _ = c.Write([]byte("z"))
				c.Close()
			}
		}
		return nil
	})
	time.Sleep(300 * time.Millisecond)
	if seen.count() != 0 {
		t.Errorf("%d frames left the unplugged pod, first: %x", seen.count(), seen.frames[0])
	}
	must(t, n.PlugIn(ctx))
	eventually(t, "announcements after plugging in", func() bool { return seen.count() > 0 })
}
