//go:build root

package network

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestAForeignMACIsCarriedOrNot(t *testing.T) {
	w := newWire(t)
	ctx := t.Context()
	mac := net.HardwareAddr{2, 0xdd, 0, 0, 0, 0x77}
	addr := netip.MustParsePrefix("10.77.0.77/24")
	refusing := netip.MustParseAddrPort(clientAddr + ":1")
	if err := w.a.ProbeForeignMAC(ctx, "br0", addr, mac, refusing); err != nil {
		t.Errorf("a switch that learns: %v", err)
	}
	// A switch port that knows its host's MAC only, as a cloud's does.
	uplink := lookUp(t, w.a.nl, "eth0")
	ns := w.a.ns
	must(t, nft(ctx, ns, "table netdev ddnt {\n chain out {\n type filter hook egress device eth0 priority 0\n"+
		" ether saddr != "+uplink.Attrs().HardwareAddr.String()+" drop\n }\n}\n"))
	if err := w.a.ProbeForeignMAC(ctx, "br0", addr, mac, refusing); !errors.Is(err, ErrForeignMAC) {
		t.Errorf("a switch that does not: %v, want ErrForeignMAC", err)
	}
	if pods, err := w.a.List(ctx); err != nil || len(pods) != 0 {
		t.Errorf("left behind: %v, %v", pods, err)
	}
}
