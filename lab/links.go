package lab

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Fault is what the switch does to the frames of one direction between two nodes.
type Fault struct {
	From, To string // host, ControllerNode or ClientNode; empty: every one
	Drop     bool   // nothing passes; one direction alone makes a link half open
	Rate     uint64 // else: bytes per second that pass, the rest waits its turn; not 0 unless Drop
}

// Partition drops everything between a and b, in both directions. An empty name is everyone.
func Partition(a, b string) []Fault {
	return []Fault{{From: a, To: b, Drop: true}, {From: b, To: a, Drop: true}}
}

const faultTable = "drydock-lab-faults"

// SetLink pulls a node's cable or plugs it in again: the node sees its carrier go and come.
func (l *Lab) SetLink(node string, up bool) error {
	if err := l.check(node); err != nil {
		return err
	}
	return l.setPort(node, up)
}

func (l *Lab) setPort(node string, up bool) error {
	return withHandle(l.NetNS(switchNode), func(h *netlink.Handle) error {
		link, err := h.LinkByName(port(node))
		var none netlink.LinkNotFoundError
		if errors.As(err, &none) && !up {
			return nil // no host, no link
		}
		if err != nil {
			return fmt.Errorf("link of %s: %w", node, err)
		}
		if up {
			return h.LinkSetUp(link)
		}
		return h.LinkSetDown(link)
	})
}

// SetFaults makes faults the only ones in the switch; none heals every link. Dropping takes effect at once in one step.
// A Rate ends with its receiver's link, when that host is killed or rebooted. Delaying frames is not offered: kernels
// without the netem queue cannot.
func (l *Lab) SetFaults(faults ...Fault) error {
	for _, f := range faults {
		if err := l.checkFault(f); err != nil {
			return err
		}
	}
	ns, err := netns.GetFromPath(l.NetNS(switchNode))
	if err != nil {
		return fmt.Errorf("switch of lab %s: %w", l.name, err)
	}
	defer ns.Close()
	if err := l.clearQueues(); err != nil {
		return err
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		return fmt.Errorf("packet filter of the switch: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyBridge, Name: faultTable}
	conn.AddTable(table)
	conn.DelTable(table) // the last set of faults goes in the same step
	if len(faults) > 0 {
		if err := l.addFaults(conn, conn.AddTable(table), faults); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set faults in the switch: %w", err)
	}
	return nil
}

func (l *Lab) addFaults(conn *nftables.Conn, table *nftables.Table, faults []Fault) error {
	chain := conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(0),
	})
	for i, f := range faults {
		rule := append(matchPort(expr.MetaKeyIIFNAME, f.From), matchPort(expr.MetaKeyOIFNAME, f.To)...)
		if f.Drop {
			rule = append(rule, &expr.Verdict{Kind: expr.VerdictDrop})
		} else {
			class := netlink.MakeHandle(1, uint16(i+1))
			if err := l.addQueues(f, class); err != nil {
				return err
			}
			// A packet's priority, where it names a class of the queue, chooses that class.
			rule = append(rule,
				&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(class)},
				&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: 1})
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	}
	return nil
}

func matchPort(key expr.MetaKey, node string) []expr.Any {
	if node == "" {
		return nil
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, port(node))
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
	}
}

// addQueues gives the ports that f sends to a class of its rate. What no fault names passes at full speed.
func (l *Lab) addQueues(f Fault, class uint32) error {
	return withHandle(l.NetNS(switchNode), func(h *netlink.Handle) error {
		for _, node := range append(l.nodes(), ClientNode) {
			if f.To != "" && f.To != node {
				continue
			}
			link, err := h.LinkByName(port(node))
			if err != nil {
				return fmt.Errorf("link of %s: %w", node, err)
			}
			at := netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
			if err := h.QdiscAdd(netlink.NewHtb(at)); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("slow the link to %s: %w", node, err)
			}
			rate := netlink.HtbClassAttrs{Rate: f.Rate * 8, Buffer: 128 << 10, Cbuffer: 128 << 10}
			in := netlink.ClassAttrs{LinkIndex: at.LinkIndex, Handle: class, Parent: at.Handle}
			if err := h.ClassAdd(netlink.NewHtbClass(in, rate)); err != nil {
				return fmt.Errorf("slow the link to %s: %w", node, err)
			}
		}
		return nil
	})
}

func (l *Lab) clearQueues() error {
	return withHandle(l.NetNS(switchNode), func(h *netlink.Handle) error {
		for _, node := range append(l.nodes(), ClientNode) {
			link, err := h.LinkByName(port(node))
			if err != nil {
				continue // a host that is down has no link
			}
			at := netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
			err = h.QdiscDel(netlink.NewHtb(at))
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("queue of %s: %w", node, err)
			}
		}
		return nil
	})
}

func (l *Lab) checkFault(f Fault) error {
	for _, node := range []string{f.From, f.To} {
		if node == "" || node == ClientNode {
			continue
		}
		if err := l.check(node); err != nil {
			return err
		}
	}
	if !f.Drop && f.Rate == 0 {
		return fmt.Errorf("fault from %q to %q does nothing: set Drop or Rate", f.From, f.To)
	}
	return nil
}
