//go:build root

package network

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

func TestLoopbackFramesAreKeptAndDeliveredInOrder(t *testing.T) {
	w := newWire(t)
	ctx := t.Context()
	n := w.create(t, w.a)
	for _, addr := range []string{"127.0.0.1", "::1", podAddr, podAddr6} {
		t.Run(addr, func(t *testing.T) {
			hold, err := n.HoldLoopback(ctx)
			must(t, err)
			server := listenUDP(t, n, net.JoinHostPort(addr, "9000"))
			var client net.Conn
			inPod(t, n, func() (err error) {
				client, err = net.Dial("udp", net.JoinHostPort(addr, "9000"))
				return err
			})
			defer client.Close()
			const held, total = 500, 1000
			for i := range uint32(held) {
				_, err := client.Write(numbered(i))
				must(t, err)
			}
			must(t, server.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			if _, err := server.Read(make([]byte, 8)); err == nil {
				t.Error("a datagram was received during the hold")
			}
			done := make(chan error, 1)
			go func() {
				_, err := hold.Release(ctx)
				done <- err
			}()
			for i := uint32(held); i < total; i++ {
				_, err := client.Write(numbered(i))
				must(t, err)
				time.Sleep(20 * time.Microsecond)
			}
			must(t, <-done)
			checkNumbers(t, readNumbers(t, server, total), held, total)
			server.Close()
		})
	}
	if links := run(t, n, "", "ip", "-br", "link"); bytes.Contains([]byte(links), []byte(loopbackIn)) {
		t.Errorf("links after release:\n%s", links)
	}
}

func TestATCPConnectionOverLoopbackSurvivesAHold(t *testing.T) {
	w := newWire(t)
	ctx := t.Context()
	n := w.create(t, w.a)
	echo(t, n)
	var conn net.Conn
	inPod(t, n, func() (err error) {
		conn, err = net.Dial("tcp", "127.0.0.1:7000")
		return err
	})
	defer conn.Close()
	hold, err := n.HoldLoopback(ctx)
	must(t, err)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	go func() { _, _ = conn.Write(payload) }()
	time.Sleep(20 * time.Millisecond)
	_, err = hold.Release(ctx)
	must(t, err)
	got := make([]byte, len(payload))
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = io.ReadFull(conn, got)
	must(t, err)
	if !bytes.Equal(got, payload) {
		t.Error("the echo differs from what was sent")
	}
}
