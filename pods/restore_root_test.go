//go:build root

package pods

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatAKilledRestoreLeftGoesAndNothingElse(t *testing.T) {
	r := &Runtime{runcRoot: t.TempDir()}
	files := t.TempDir()
	if err := os.WriteFile(filepath.Join(files, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(r.runcRoot, containerID("web", "main"))
	root := filepath.Join(state, "criu-root")
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(files, root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	for range 2 {
		if err := r.removeRestoreRoot("web", "main"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(state); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(files, "precious")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.MkdirAll(root, 0o700), os.WriteFile(filepath.Join(state, "state.json"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := r.removeRestoreRoot("web", "main"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(state, "state.json")); err != nil {
		t.Errorf("the state of a container that runc knows: %v", err)
	}
}
