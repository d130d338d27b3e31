package faultpoint

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAProgramStandsAtAPointUntilItIsLetGo(t *testing.T) {
	dir := t.TempDir()
	at := In(dir, slog.New(slog.DiscardHandler))
	at(t.Context(), "elsewhere") // has no file
	file := filepath.Join(dir, "here")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		at(t.Context(), "here")
		close(gone)
	}()
	for _, err := os.Stat(file + ".reached"); err != nil; _, err = os.Stat(file + ".reached") {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-gone:
		t.Fatal("it went on by itself")
	case <-time.After(20 * time.Millisecond):
	}
	if err := os.Remove(file + ".reached"); err != nil {
		t.Fatal(err)
	}
	<-gone
}

func TestAProgramThatIsToEndDoesNotStandAtAPoint(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	In(dir, slog.New(slog.DiscardHandler))(ctx, "here")
}

func TestWithoutADirectoryThereAreNoPoints(t *testing.T) {
	if In("", nil) != nil {
		t.Error("it looks for points")
	}
}
