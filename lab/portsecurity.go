package lab

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"
)

// securePort makes the switch drop what comes from a node with another MAC than the node's own.
func (l *Lab) securePort(node string) error {
	ns, err := netns.GetFromPath(l.NetNS(switchNode))
	if err != nil {
		return err
	}
	defer ns.Close()
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		return err
	}
	own := l.mac(node, hostBridge)
	if node == ClientNode || !joined(node) {
		own = l.mac(node, uplink)
	}
	allowOnly(conn, port(node), own)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// allowOnly adds a table that drops what a port receives from any other MAC. The chain goes with the port, so a table that
// an earlier port of the name left is replaced.
func allowOnly(conn *nftables.Conn, port string, own net.HardwareAddr) {
	const sourceMAC, length = 6, 6 // within the Ethernet header
	table := &nftables.Table{Family: nftables.TableFamilyNetdev, Name: port}
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	chain := conn.AddChain(&nftables.Chain{
		Name: "security", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityFilter, Device: port,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: sourceMAC, Len: length},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: own},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
}
