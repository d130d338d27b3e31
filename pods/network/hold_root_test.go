//go:build root

package network

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// moved is a pod that was plugged in at A and is now held at B, with the client's neighbour entry in place.
func moved(t *testing.T, w *wire) (at, to *Network, hold *Hold) {
	t.Helper()
	ctx := t.Context()
	at, to = w.create(t, w.a), w.create(t, w.b)
	must(t, at.PlugIn(ctx))
	echo(t, at)
	conn := w.dial(t, "tcp", net.JoinHostPort(podAddr, "7000"))
	_, err := conn.Write([]byte("x"))
	must(t, err)
	_, err = conn.Read(make([]byte, 1))
	must(t, err)
	conn.Close()
	hold, err = to.Hold(ctx)
	must(t, err)
	must(t, at.Unplug(ctx))
	must(t, hold.Announce(ctx))
	return at, to, hold
}

func TestFramesSentDuringAHoldArriveOnceAndInOrder(t *testing.T) {
	w := newWire(t)
	_, to, hold := moved(t, w)
	server := listenUDP(t, to, podAddr+":9000")
	client := w.dial(t, "udp", podAddr+":9000")
	const held, total = 2000, 6000
	for i := range uint32(held) {
		_, err := client.Write(numbered(i))
		must(t, err)
	}
	released := release(t, hold)
	for i := uint32(held); i < total; i++ {
		_, err := client.Write(numbered(i))
		must(t, err)
		time.Sleep(20 * time.Microsecond)
	}
	must(t, <-released)
	checkNumbers(t, readNumbers(t, server, total), held, total)
	if plugged, err := to.Plugged(); err != nil || !plugged {
		t.Errorf("plugged in after release: %v, %v", plugged, err)
	}
}

func TestWhatThePodSendsDuringAHoldArrivesOnceAndInOrder(t *testing.T) {
	w := newWire(t)
	_, to, hold := moved(t, w)
	server := listenUDPIn(t, w.client, clientAddr+":9001")
	var pod net.Conn
	inPod(t, to, func() (err error) {
		pod, err = net.Dial("udp", clientAddr+":9001")
		return err
	})
	t.Cleanup(func() { pod.Close() })
	// The neighbour entry comes with the state in a real move; without it the kernel itself keeps only a few datagrams.
	loadNeighbor(t, to, w)
	const held, total = 1000, 3000
	for i := range uint32(held) {
		_, err := pod.Write(numbered(i))
		must(t, err)
	}
	released := release(t, hold)
	for i := uint32(held); i < total; i++ {
		_, err := pod.Write(numbered(i))
		must(t, err)
		time.Sleep(20 * time.Microsecond)
	}
	must(t, <-released)
	checkNumbers(t, readNumbers(t, server, total), held, total)
}

// release releases the hold while the test goes on.
func release(t *testing.T, hold *Hold) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		began := time.Now()
		stats, err := hold.Release(context.Background())
		t.Logf("released in %v; to the pod: %v; from it: %v", time.Since(began), stats.In, stats.Out)
		done <- err
	}()
	return done
}

func TestLargeSegmentsSurviveAHold(t *testing.T) {
	w := newWire(t)
	_, to, hold := moved(t, w)
	echo(t, to)
	// A restored connection is one that exists while packets are held. Here it is opened through the hold and held then.
	hold.out.pass()
	hold.in.pass()
	conn := w.dial(t, "tcp", podAddr+":7000")
	payload := make([]byte, 4<<20)
	for i := range payload {
		payload[i] = byte(i * 7 >> 3)
	}
	exchange := func(released func()) {
		go func() { _, _ = conn.Write(payload) }()
		released()
		got := make([]byte, len(payload))
		must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err := io.ReadFull(conn, got)
		must(t, err)
		if !bytes.Equal(got, payload) {
			t.Error("the echo differs from what was sent")
		}
	}
	exchange(func() {}) // opens the congestion window
	hold.in.mu.Lock()
	hold.in.mode = keeping
	hold.in.mu.Unlock()
	exchange(func() {
		eventually(t, "a segment larger than the MTU is kept", func() bool {
			hold.in.mu.Lock()
			defer hold.in.mu.Unlock()
			return slices.ContainsFunc(hold.in.kept, func(frame []byte) bool { return len(frame) > 2*defaultMTU })
		})
		_, err := hold.Release(t.Context())
		must(t, err)
	})
}

func TestAddressQuestionsAreAnsweredDuringAHold(t *testing.T) {
	w := newWire(t)
	_, to, hold := moved(t, w)
	_, handle, done, err := openHandle(w.client)
	must(t, err)
	defer done()
	inner := lookUp(t, handle, "eth0")
	must(t, flushNeighbors(handle, inner.Attrs().Index))
	for _, addr := range []string{podAddr, podAddr6} {
		server := listenUDP(t, to, net.JoinHostPort(addr, "9000"))
		client := w.dial(t, "udp", net.JoinHostPort(addr, "9000"))
		_, err = client.Write(numbered(1))
		must(t, err)
		eventually(t, "the client has the pod's MAC for "+addr, func() bool {
			return hasNeighbor(t, handle, inner.Attrs().Index, netip.MustParseAddr(addr))
		})
		t.Cleanup(func() {
			if got := readNumbers(t, server, 1); len(got) != 1 {
				t.Errorf("datagrams to %s after release: %v", addr, got)
			}
		})
	}
	if hold.Stats().Answered < 2 {
		t.Errorf("answered %d questions, want one for each address", hold.Stats().Answered)
	}
	_, err = hold.Release(t.Context())
	must(t, err)
}

func TestADroppedHoldLetsTheSourceServeAgain(t *testing.T) {
	w := newWire(t)
	at, to, hold := moved(t, w)
	ctx := t.Context()
	held := listenUDP(t, to, podAddr+":9000")
	back := listenUDP(t, at, podAddr+":9000")
	client := w.dial(t, "udp", podAddr+":9000")
	_, err := client.Write(numbered(1))
	must(t, err)
	eventually(t, "the datagram is held", func() bool { hold.in.mu.Lock(); defer hold.in.mu.Unlock(); return len(hold.in.kept) > 0 })
	must(t, hold.Drop(ctx))
	must(t, hold.Drop(ctx))
	if _, err := hold.Release(ctx); !errors.Is(err, ErrDropped) {
		t.Errorf("release after drop: %v, want ErrDropped", err)
	}
	must(t, at.PlugIn(ctx))
	_, err = client.Write(numbered(2))
	must(t, err)
	if diff := cmp.Diff([]uint32{2}, readNumbers(t, back, 1)); diff != "" {
		t.Errorf("at the source (-want +got):\n%s", diff)
	}
	must(t, held.SetReadDeadline(time.Now()))
	if n, err := held.Read(make([]byte, 9)); err == nil {
		t.Errorf("the destination received %d bytes of what was dropped", n)
	}
}

func TestWhatACrashedHoldLeftIsSwept(t *testing.T) {
	w := newWire(t)
	_, to, hold := moved(t, w)
	ctx := t.Context()
	// A crash closes the sockets and leaves the port.
	for _, socket := range append(hold.outer, hold.tap, hold.toPod, hold.toNet) {
		socket.Close()
	}
	must(t, w.b.Sweep(ctx, podName))
	must(t, w.b.Sweep(ctx, podName))
	if link, err := findLink(w.b.nl, holdName(podName)); err != nil || link != nil {
		t.Fatalf("holding port after sweep: %v, %v", link, err)
	}
	must(t, to.PlugIn(ctx))
	server := listenUDP(t, to, podAddr+":9000")
	client := w.dial(t, "udp", podAddr+":9000")
	_, err := client.Write(numbered(3))
	must(t, err)
	if diff := cmp.Diff([]uint32{3}, readNumbers(t, server, 1)); diff != "" {
		t.Errorf("after sweep and plug in (-want +got):\n%s", diff)
	}
}

func TestAHoldIsRefusedWhileThePodIsPluggedIn(t *testing.T) {
	w := newWire(t)
	n := w.create(t, w.a)
	must(t, n.PlugIn(t.Context()))
	if _, err := n.Hold(t.Context()); err == nil {
		t.Error("a plugged-in pod was held")
	}
}
