package migrate

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"drydock/migrate/filesync"
	"drydock/migrate/transfer"
)

func TestASourceThatGoesOnAfterItsMigrationWasDroppedFindsNothingToWriteTo(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "file"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	images, err := transfer.NewImageReceiver(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	coming := &arrival{migration: "m1", images: images}
	ours, theirs := net.Pipe()
	defer ours.Close()
	target, err := filesync.NewTarget(to)
	if err != nil {
		t.Fatal(err)
	}
	coming.files = append(coming.files, target)
	end, err := coming.serve(theirs)
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan error, 1)
	go func() {
		defer end()
		received <- transfer.ReceiveFiles(t.Context(), theirs, target)
	}()
	// The source sends the beginning of a frame, and is stopped.
	if _, err := ours.Write([]byte{0, 0, 1, 0, 'D', 'R', 'Y'}); err != nil {
		t.Fatal(err)
	}
	coming.close()
	select {
	case err := <-received:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the receiver ended with %v", err)
		}
	default:
		t.Error("the directory was let go of while something was still received into it")
	}
	_ = theirs.Close()
	if _, err := ours.Write([]byte("FSYNC")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the source goes on: %v", err)
	}
	if _, err := coming.serve(theirs); err == nil {
		t.Error("a connection was taken for a migration that is over")
	}
}
