package transfer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"drydock/migrate/filesync"
)

const shortSilence = 100 * time.Millisecond

// stopped connects to a host whose kernel takes what is sent, as far as it has room, and whose agent is stopped.
func stopped(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), theirs.Close() })
	return Watch(conn, shortSilence), theirs
}

func TestAPassToAHostThatIsStoppedHasAnEnd(t *testing.T) {
	for name, size := range map[string]int64{"that has taken all of it": 10, "that has no room for it": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			content := make([]byte, size)
			content[0] = 1
			if err := os.WriteFile(filepath.Join(dir, "file"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			conn, _ := stopped(t)
			sender, err := NewFileSender(dir, conn)
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			if _, err := sender.Pass(t.Context(), filesync.PassOptions{Final: true}); !errors.Is(err, ErrSilent) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestImagesForAHostThatIsStoppedHaveAnEnd(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "core-1.img"), []byte("core"), 0o600); err != nil {
		t.Fatal(err)
	}
	conn, _ := stopped(t)
	written := make(chan struct{})
	close(written)
	if _, err := NewImageSender(dir, []net.Conn{conn}).Send(t.Context(), written); !errors.Is(err, ErrSilent) {
		t.Errorf("got %v", err)
	}
}

func TestAHostThatIsSlowIsNotSilentAndALineMayRest(t *testing.T) {
	conn, theirs := stopped(t)
	go func() {
		for range 10 {
			_, _ = theirs.Write([]byte("x"))
			time.Sleep(shortSilence / 4)
		}
	}()
	if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
		t.Errorf("a slow host: %v", err)
	}
	time.Sleep(2 * shortSilence)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Errorf("after a rest: %v", err)
	}
}

func TestALineThatIsCancelledStaysSo(t *testing.T) {
	conn, _ := stopped(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	<-ctx.Done()
	if err := conn.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrSilent) {
		t.Errorf("got %v", err)
	}
}
