package transfer

import (
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/migrate/filesync"
)

func target(t *testing.T) (*filesync.Target, string) {
	t.Helper()
	dir := t.TempDir()
	to, err := filesync.NewTarget(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = to.Close() })
	return to, dir
}

func TestPassesOverATreeAreAnsweredAndTheEndOfTheConnectionEndsThem(t *testing.T) {
	from := t.TempDir()
	ours, theirs := pipes(t, 1)
	to, dir := target(t)
	received := make(chan error, 1)
	go func() { received <- ReceiveFiles(t.Context(), theirs[0], to) }()
	sender, err := NewFileSender(from, ours[0])
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	for n, content := range []string{"first", "second, and longer"} {
		if err := os.WriteFile(filepath.Join(from, "file"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sender.Pass(t.Context(), filesync.PassOptions{Final: n == 1}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != content {
			t.Errorf("pass %d brought %q, %v", n, got, err)
		}
	}
	_ = ours[0].Close()
	if err := <-received; err != nil {
		t.Errorf("the receiver: %v", err)
	}
}

func TestAPassThatIsCutIsAnErrorAndAnswered(t *testing.T) {
	for _, sent := range []string{
		"00000005" + "4452", // a frame that is cut
		"0000000a" + hex.EncodeToString([]byte("DRYFSYNC\x00\x02")) + "00000000", // another version of the stream
		"00000004" + hex.EncodeToString([]byte("junk")) + "00000000",
	} {
		data, err := hex.DecodeString(sent)
		if err != nil {
			t.Fatal(err)
		}
		a, b := net.Pipe()
		to, _ := target(t)
		received := make(chan error, 1)
		go func() { received <- ReceiveFiles(t.Context(), b, to); _ = b.Close() }()
		go func() {
			_, _ = a.Write(data)
			if strings.HasPrefix(sent, "00000005") {
				_ = a.Close()
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, a) }()
		if err := <-received; err == nil {
			t.Errorf("%q was taken", data)
		} else if strings.Contains(string(data), "\x00\x02") && (!strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "version 1")) {
			t.Errorf("another version: %v", err)
		}
		_ = a.Close()
	}
}
