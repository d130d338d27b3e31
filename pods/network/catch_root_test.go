//go:build root

package network

import (
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestFramesSentBetweenUnpluggingAndAnnouncementArriveBeforeAllOthers(t *testing.T) {
	w := newWire(t)
	ctx := t.Context()
	at, to := w.create(t, w.a), w.create(t, w.b)
	must(t, at.PlugIn(ctx))
	before := listenUDP(t, at, podAddr+":9000")
	client := w.dial(t, "udp", podAddr+":9000")
	write := func(from, to uint32) {
		for i := from; i < to; i++ {
			_, err := client.Write(numbered(i))
			must(t, err)
		}
	}
	catch, err := at.Catch(ctx)
	must(t, err)
	write(0, 10)
	if got := readNumbers(t, before, 10); len(got) != 10 {
		t.Fatalf("the plugged pod got %d of 10 datagrams", len(got))
	}
	hold, err := to.Hold(ctx)
	must(t, err)
	must(t, catch.Begin())
	must(t, at.Unplug(ctx))
	const caught, total = 100, 200
	write(0, caught)
	for len(catch.Frames()) < caught {
		time.Sleep(time.Millisecond)
	}
	must(t, hold.Announce(ctx))
	write(caught, total)
	hold.Precede(catch.Frames())
	must(t, catch.Drop())
	server := listenUDP(t, to, net.JoinHostPort(podAddr, "9000"))
	must(t, <-release(t, hold))
	checkNumbers(t, readNumbers(t, server, total), total, total)
	if link, err := findLink(w.a.nl, holdName(podName)); err != nil || link != nil {
		t.Errorf("the holding port is still there: %v, %v", link, err)
	}
	must(t, catch.Drop())
}

func TestWhatComesToAPluggedPodIsNotCaught(t *testing.T) {
	w := newWire(t)
	at := w.create(t, w.a)
	must(t, at.PlugIn(t.Context()))
	server := listenUDP(t, at, podAddr+":9000")
	client := w.dial(t, "udp", podAddr+":9000")
	catch, err := at.Catch(t.Context())
	must(t, err)
	must(t, catch.Begin())
	for i := range uint32(50) {
		_, err := client.Write(numbered(i))
		must(t, err)
	}
	if got := readNumbers(t, server, 50); len(got) != 50 {
		t.Errorf("the pod got %d of 50", len(got))
	}
	w.forget(t) // so that the next datagram makes the client ask by broadcast who has the address
	_, err = client.Write(numbered(50))
	must(t, err)
	if got := readNumbers(t, server, 1); len(got) != 1 {
		t.Error("the pod was not found again")
	}
	for _, frame := range catch.Frames() {
		t.Errorf("caught as well: %x", frame[vnetHeader:])
	}
	must(t, catch.Drop())
}

// forget makes the client know no neighbour.
func (w *wire) forget(t *testing.T) {
	t.Helper()
	client, err := netlink.NewHandleAt(w.client)
	must(t, err)
	defer client.Close()
	known, err := client.NeighList(0, netlink.FAMILY_V4)
	must(t, err)
	for _, neighbour := range known {
		if neighbour.State&(netlink.NUD_NOARP|netlink.NUD_PERMANENT) == 0 {
			must(t, client.NeighDel(&neighbour))
		}
	}
}
