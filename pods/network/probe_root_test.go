//go:build root

package network

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// reach tries whether pods on one host of a wire could talk to pods on the other.
func (w *wire) reach(t *testing.T, bridge string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	there := netip.MustParsePrefix("10.77.0.78/24")
	done, err := w.b.Answer(ctx, Probe{Name: "a", Host: "b", Bridge: bridge, Address: there})
	must(t, err)
	defer func() { must(t, done()) }()
	return w.a.Reach(ctx, Probe{Name: "b", Host: "a", Bridge: bridge, Address: netip.MustParsePrefix("10.77.0.77/24")}, there.Addr())
}

// secure makes the switch's ports accept frames only of their host's own MAC, as a cloud's do.
func (w *wire) secure(t *testing.T) {
	t.Helper()
	for _, h := range []*Host{w.a, w.b} {
		own := lookUp(t, h.nl, "br0").Attrs().HardwareAddr
		must(t, nft(t.Context(), h.ns, "table netdev ddnt {\n chain out {\n type filter hook egress device eth0 priority 0\n"+
			" ether saddr != "+own.String()+" drop\n }\n}\n"))
	}
}

func TestAForeignMACIsCarriedOrNot(t *testing.T) {
	w := newWire(t)
	if err := w.reach(t, "br0"); err != nil {
		t.Errorf("a switch that learns: %v", err)
	}
	w.secure(t)
	if err := w.reach(t, "br0"); !errors.Is(err, ErrForeignMAC) {
		t.Errorf("a switch that does not: %v, want ErrForeignMAC", err)
	}
	for _, h := range []*Host{w.a, w.b} {
		if pods, err := h.List(t.Context()); err != nil || len(pods) != 0 {
			t.Errorf("left behind: %v, %v", pods, err)
		}
	}
}

func TestWhatACrashedProbeLeftIsSwept(t *testing.T) {
	w := newWire(t)
	_, err := w.a.Answer(t.Context(), Probe{Name: "b", Host: "a", Bridge: "br0", Address: netip.MustParsePrefix("10.77.0.78/24")})
	must(t, err)
	must(t, w.a.SweepProbes(t.Context()))
	if pods, err := w.a.List(t.Context()); err != nil || len(pods) != 0 {
		t.Errorf("left behind: %v, %v", pods, err)
	}
}

// overlay gives both hosts addresses of their own, and joins them by a VXLAN.
func (w *wire) overlay(t *testing.T) (a, b Overlay) {
	t.Helper()
	addresses := []netip.Prefix{netip.MustParsePrefix("10.78.0.1/24"), netip.MustParsePrefix("10.78.0.2/24")}
	for i, h := range []*Host{w.a, w.b} {
		must(t, h.nl.AddrReplace(lookUp(t, h.nl, "br0"), &netlink.Addr{IPNet: ipNet(addresses[i])}))
	}
	local := [2]netip.Addr{addresses[0].Addr(), addresses[1].Addr()}
	a = Overlay{VNI: 77, Port: 4789, Local: local[0], Peers: []netip.Addr{local[1]}, MTU: 1500}
	b = Overlay{VNI: 77, Port: 4789, Local: local[1], Peers: []netip.Addr{local[0]}, MTU: 1500}
	must(t, w.a.SetOverlay(a))
	must(t, w.b.SetOverlay(b))
	return a, b
}

func TestAVXLANCarriesAForeignMACWhereTheSwitchDoesNot(t *testing.T) {
	w := newWire(t)
	w.overlay(t)
	w.secure(t)
	if err := w.reach(t, OverlayBridge); err != nil {
		t.Error(err)
	}
}

func TestAVXLANGoesToTheHostsThatAreNamedAndNoOthers(t *testing.T) {
	w := newWire(t)
	a, _ := w.overlay(t)
	must(t, w.a.SetOverlay(a)) // nothing changes
	if err := w.reach(t, OverlayBridge); err != nil {
		t.Errorf("set twice: %v", err)
	}
	stranger := a
	stranger.Peers = []netip.Addr{netip.MustParseAddr("10.78.0.3")}
	must(t, w.a.SetOverlay(stranger))
	if err := w.reach(t, OverlayBridge); !errors.Is(err, ErrForeignMAC) {
		t.Errorf("the other host is a peer no more: %v", err)
	}
	must(t, w.a.SetOverlay(a))
	if err := w.reach(t, OverlayBridge); err != nil {
		t.Errorf("the other host is a peer again: %v", err)
	}
	must(t, w.a.RemoveOverlay())
	must(t, w.a.RemoveOverlay())
	for _, name := range []string{OverlayBridge, overlayLink} {
		if link, err := findLink(w.a.nl, name); link != nil || err != nil {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}

func TestALinkOfSomebodyElseIsNotTakenForTheVXLAN(t *testing.T) {
	w := newWire(t)
	bridge(t, w.a.nl, overlayLink)
	err := w.a.SetOverlay(Overlay{VNI: 77, Port: 4789, Local: netip.MustParseAddr("10.78.0.1"), MTU: 1500})
	if err == nil {
		t.Error("accepted")
	}
	must(t, w.a.RemoveOverlay())
	if lookUp(t, w.a.nl, overlayLink).Type() != "bridge" {
		t.Error("it was touched")
	}
}

func TestAPodThatIsPluggedInFollowsItsHostIntoTheVXLAN(t *testing.T) {
	w := newWire(t)
	w.overlay(t)
	n, err := w.a.Create(t.Context(), Config{
		Pod: podName, MAC: []byte{2, 0xdd, 0, 0, 0, 1}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.0.5/24")}, Bridge: "br0",
	})
	must(t, err)
	must(t, n.PlugIn(t.Context()))
	must(t, n.Hang(OverlayBridge))
	again, err := w.a.Open(t.Context(), podName)
	must(t, err)
	outer, err := again.outer()
	must(t, err)
	if again.Config().Bridge != OverlayBridge || outer.Attrs().MasterIndex != lookUp(t, w.a.nl, OverlayBridge).Attrs().Index {
		t.Errorf("it hangs on %s, port of %d", again.Config().Bridge, outer.Attrs().MasterIndex)
	}
}
