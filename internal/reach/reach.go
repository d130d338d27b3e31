// Package reach finds, of several controllers, one that answers. The kernel takes connections for a program that is paused, which
// then says nothing: so that a connection was made proves nothing, and each way has to show a sign of life within a short time.
package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Within is how long one of several controllers may take for its sign of life.
const Within = 2 * time.Second

// Dial is a way to a controller.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// First takes the ways in their order, each for at most Within, and returns the first connection. Where there is none the error has
// what every way met.
func First(ways ...Dial) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var failed []error
		for _, way := range ways {
			within, cancel := context.WithTimeout(ctx, Within)
			conn, err := way(within, network, address)
			cancel()
			if err == nil {
				return conn, nil
			}
			failed = append(failed, err)
		}
		return nil, errors.Join(failed...)
	}
}

// hello is how a client of HTTP/2 begins: the preface, and settings that change nothing (RFC 9113, 3.4).
const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// frameHeader is the length of what each frame begins with; settingsFrame is the kind that a server sends first.
const (
	frameHeader   = 9
	settingsFrame = 4
)

// InTheClear is a way to a server that speaks HTTP/2 without TLS: it connects once to have the server say its settings, and then for
// good. With TLS the handshake is the sign of life.
func InTheClear(way Dial) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		probe, err := way(ctx, network, address)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { _ = probe.SetDeadline(time.Unix(1, 0)) })
		err = greet(probe)
		stop()
		if err = errors.Join(err, context.Cause(ctx), probe.Close()); err != nil {
			return nil, fmt.Errorf("%s gives no sign of life: %w", probe.RemoteAddr(), err)
		}
		return way(ctx, network, address)
	}
}

func greet(conn io.ReadWriter) error {
	if _, err := io.WriteString(conn, hello); err != nil {
		return err
	}
	header := make([]byte, frameHeader)
	if _, err := io.ReadFull(conn, header); err != nil {
		return err
	}
	if header[3] != settingsFrame {
		return errors.New("it does not speak HTTP/2")
	}
	return nil
}
