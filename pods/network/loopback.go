package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Inside the pod's namespace, while its loopback is held: the two ends of a veth pair, and the table that sends there what
// would be received on lo, except frames that bear our mark.
const (
	loopbackTable = "drydock-lo"
	loopbackIn    = "ddlo0"
	loopbackOut   = "ddlo1"
	loopbackMark  = 0x64726b
	loopbackMTU   = 65535
)

const loopbackConf = "/proc/sys/net/ipv4/conf/lo/"

// loopbackSettings let lo receive frames that come from a packet socket: without a cached route the kernel takes a local
// source address for a forged one. They hold only while the loopback is held.
var loopbackSettings = []string{"route_localnet", "accept_local"}

// LoopbackHold keeps what the containers of a pod send one another over lo until all of them are restored: a connection
// whose other end does not exist yet would be reset. It lives in this process; Host.Sweep removes what a crash leaves.
type LoopbackHold struct {
	network *Network
	ns      netns.NsHandle
	tap, to *os.File
	kept    flow
	reader  sync.WaitGroup

	settings map[string]string // of lo, as they were

	mu   sync.Mutex
	over bool
	end  error
}

// HoldLoopback begins to keep the frames of the pod's loopback. Nothing may be using it yet.
func (n *Network) HoldLoopback(ctx context.Context) (*LoopbackHold, error) {
	if err := clearLoopback(n.Path(), nil); err != nil {
		return nil, err
	}
	ns, err := netns.GetFromPath(n.Path())
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", n.Path(), err)
	}
	l := &LoopbackHold{network: n, ns: ns, kept: flow{limit: HoldLimit, mode: keeping}}
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("hold loopback of pod %s: %w", n.cfg.Pod, err), l.finish(ErrDropped))
	}
	return l, nil
}

// Release delivers what was kept, in order, and lets the loopback go. It may be called again, as Hold.Release.
func (l *LoopbackHold) Release(ctx context.Context) (Counts, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return l.kept.snapshot(), l.end
	}
	l.kept.pass()
	if err := nft(ctx, l.ns, "delete table netdev "+loopbackTable); err != nil {
		return l.kept.snapshot(), fmt.Errorf("release loopback of pod %s: %w", l.network.cfg.Pod, err)
	}
	awaitQuiet(ctx, quiet, quietLimit, &l.kept)
	err := l.finish(nil)
	return l.kept.snapshot(), err
}

// Drop throws away what was kept and lets the loopback go. After Release it does nothing.
func (l *LoopbackHold) Drop(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return nil
	}
	return l.finish(ErrDropped)
}

func (l *LoopbackHold) open(ctx context.Context) error {
	_, handle, done, err := open(l.network.Path())
	if err != nil {
		return err
	}
	defer done()
	in, out, err := loopbackPair(l.ns, handle)
	if err != nil {
		return err
	}
	if err := within(l.ns, func() (err error) { l.settings, err = openLoopback(); return err }); err != nil {
		return err
	}
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look up lo: %w", err)
	}
	if l.to, err = openPacket(l.ns, lo.Attrs().Index, 0); err != nil {
		return err
	}
	if err := setMark(l.to, loopbackMark); err != nil {
		return err
	}
	if l.tap, err = openPacket(l.ns, out.Attrs().Index, unix.ETH_P_ALL); err != nil {
		return err
	}
	l.kept.to = l.to
	l.reader.Go(func() { readFrames(l.tap, &l.kept, l.kept.accept) })
	return nft(ctx, l.ns, fmt.Sprintf(
		"table netdev %s {\n chain in {\n type filter hook ingress device \"lo\" priority -500\n meta mark != %d fwd to %q\n }\n}\n",
		loopbackTable, loopbackMark, in.Attrs().Name))
}

func loopbackPair(ns netns.NsHandle, handle *netlink.Handle) (in, out netlink.Link, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = loopbackIn, loopbackMTU
	if err := handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: loopbackOut}); err != nil {
		return nil, nil, fmt.Errorf("make %s: %w", loopbackIn, err)
	}
	var links [2]netlink.Link
	for i, name := range []string{loopbackIn, loopbackOut} {
		if links[i], err = handle.LinkByName(name); err != nil {
			return nil, nil, fmt.Errorf("look up %s: %w", name, err)
		}
		if err := quieten(ns, handle, links[i]); err != nil {
			return nil, nil, err
		}
		if err := handle.LinkSetUp(links[i]); err != nil {
			return nil, nil, fmt.Errorf("set %s up: %w", name, err)
		}
	}
	return links[0], links[1], errors.Join(awaitUp(handle, loopbackIn), awaitUp(handle, loopbackOut))
}

// finish lets the loopback go, whatever state it is in.
func (l *LoopbackHold) finish(end error) error {
	l.kept.end()
	if err := clearLoopback(l.network.Path(), l.settings); err != nil {
		return err
	}
	if l.tap != nil {
		l.kept.miss(lost(l.tap))
	}
	closeAll(l.tap, l.to)
	l.reader.Wait()
	l.ns.Close()
	l.over, l.end = true, end
	return nil
}

// clearLoopback removes what HoldLoopback made in the namespace at path, if it is there, and gives lo its settings back:
// where they are not known, after a crash, the kernel's own.
func clearLoopback(path string, settings map[string]string) error {
	ns, handle, done, err := open(path)
	if err != nil {
		return err
	}
	defer done()
	link, err := findLink(handle, loopbackIn)
	if err != nil || link == nil {
		return err
	}
	tables, err := tableNames(ns)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if table == "netdev "+loopbackTable {
			if err := nft(context.Background(), ns, "delete table "+table); err != nil {
				return err
			}
		}
	}
	if err := within(ns, func() error { return closeLoopback(settings) }); err != nil {
		return err
	}
	if err := handle.LinkDel(link); err != nil && !isGone(err) {
		return fmt.Errorf("delete %s: %w", loopbackIn, err)
	}
	return nil
}

func openLoopback() (map[string]string, error) {
	before := map[string]string{}
	for _, name := range loopbackSettings {
		value, err := os.ReadFile(loopbackConf + name)
		if err != nil {
			return nil, fmt.Errorf("let lo take kept frames: %w", err)
		}
		before[name] = strings.TrimSpace(string(value))
		if err := os.WriteFile(loopbackConf+name, []byte("1"), 0o644); err != nil {
			return nil, fmt.Errorf("let lo take kept frames: %w", err)
		}
	}
	return before, nil
}

func closeLoopback(settings map[string]string) error {
	for _, name := range loopbackSettings {
		value := cmp.Or(settings[name], "0")
		if err := os.WriteFile(loopbackConf+name, []byte(value), 0o644); err != nil {
			return fmt.Errorf("give lo its settings back: %w", err)
		}
	}
	return nil
}
