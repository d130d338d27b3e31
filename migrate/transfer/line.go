package transfer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// ErrSilent: the other side has neither taken nor sent a byte for as long as it may.
var ErrSilent = errors.New("the other host is silent")

// Watch returns conn with a limit on silence: a read or a write that makes no progress for so long fails with ErrSilent. A
// connection that nobody reads from or writes to may rest.
//
// Keepalives and TCP's user timeout do not do this: the kernel of a host whose agent is stopped goes on to acknowledge.
func Watch(conn net.Conn, silence time.Duration) net.Conn { return &line{Conn: conn, silence: silence} }

type line struct {
	net.Conn
	silence time.Duration

	mu  sync.Mutex
	set bool // a deadline from outside, which counts instead
}

func (l *line) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set = !t.IsZero()
	return l.Conn.SetDeadline(t)
}

func (l *line) Read(p []byte) (int, error) {
	if err := l.limit(l.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	n, err := l.Conn.Read(p)
	return n, l.explain(err)
}

// writeAtOnce is how much of a write has to be taken within the limit.
const writeAtOnce = 256 << 10

func (l *line) Write(p []byte) (total int, err error) {
	for {
		if err := l.limit(l.Conn.SetWriteDeadline); err != nil {
			return total, err
		}
		n, err := l.Conn.Write(p[:min(len(p), writeAtOnce)])
		total, p = total+n, p[n:]
		if err != nil || len(p) == 0 {
			return total, l.explain(err)
		}
	}
}

func (l *line) limit(set func(time.Time) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set {
		return nil
	}
	return set(time.Now().Add(l.silence))
}

func (l *line) explain(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set {
		return err
	}
	return fmt.Errorf("%w: no byte in %s", ErrSilent, l.silence)
}
