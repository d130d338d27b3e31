package migrate

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAFlushEndsWithWhatEndedTheSending(t *testing.T) {
	images := t.TempDir()
	if err := os.MkdirAll(filepath.Join(images, "web.round-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(images, "web.round-1", "pages-1.img"), []byte("pages"), 0o600); err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	_ = theirs.Close()
	m := &move{images: []net.Conn{ours}}
	s := m.beginSending(t.Context(), images)
	done := make(chan error, 1)
	go func() { done <- s.flush(t.Context(), "web.round-1") }()
	select {
	case err := <-done:
		if err == nil {
			// The part was taken before its connection was found closed; nothing more is.
			err = s.wait(t.Context())
		}
		if err == nil {
			t.Error("images were sent to nobody")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a flush waits for a sender that has ended")
	}
	s.stop()
	s.stop()
}

func TestImagesThatAreGivenUpAreNotWaitedFor(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close() // which takes nothing
	m := &move{images: []net.Conn{ours}}
	s := m.beginSending(t.Context(), t.TempDir())
	s.stop()
	if s.err == nil {
		t.Error("a sending that was given up says that all has arrived")
	}
	var none *sending
	none.stop()
}
