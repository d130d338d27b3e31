package reach

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve answers HTTP/2 in the clear on a unix socket.
func serve(t *testing.T, path string) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

func way(path string) Dial {
	return InTheClear(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})
}

func TestTheFirstThatGivesASignOfLifeIsTaken(t *testing.T) {
	dir := t.TempDir()
	live, dead, paused := filepath.Join(dir, "live"), filepath.Join(dir, "dead"), filepath.Join(dir, "paused")
	serve(t, live)
	silent, err := net.Listen("unix", paused)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, paths := range map[string][]string{
		"alone": {live}, "behind a dead one": {dead, live}, "behind a paused one": {paused, live}, "before both": {live, dead, paused},
	} {
		t.Run(name, func(t *testing.T) {
			var ways []Dial
			for _, path := range paths {
				ways = append(ways, way(path))
			}
			conn, err := First(ways...)(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if conn.RemoteAddr().String() != live {
				t.Errorf("connected to %s", conn.RemoteAddr())
			}
		})
	}
}

func TestWhereNobodyAnswersTheErrorHasWhatEachWayMet(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	listener, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("220 ready when you are\r\n"))
		}
	}()
	_, err = First(way(filepath.Join(dir, "dead")), way(other))(t.Context(), "", "")
	if err == nil || !strings.Contains(err.Error(), "dead") || !strings.Contains(err.Error(), "it does not speak HTTP/2") {
		t.Errorf("got %v", err)
	}
}

func TestAPausedServerIsGivenUpWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "paused")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := way(path)(ctx, "", ""); err == nil || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("got %v", err)
	}
}
