package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ledger is a disk that notes what is synced, and what path holds at that moment; it fails at the sync of the given number.
type ledger struct {
	root, path string
	synced     []string
	failAt     int
}

var errPower = errors.New("the power is gone")

func (l *ledger) disk() disk {
	return disk{func(f *os.File) error {
		if l.failAt > 0 && len(l.synced)+1 == l.failAt {
			return errPower
		}
		name, _ := filepath.Rel(l.root, f.Name())
		if strings.Contains(name, "-") {
			name = "a new file"
		}
		held, err := os.ReadFile(l.path)
		if err != nil {
			held = []byte("nothing")
		}
		l.synced = append(l.synced, name+": "+string(held))
		return f.Sync()
	}}
}

func TestTheContentIsOnDiskBeforeItsNameAndTheNameBeforeItCounts(t *testing.T) {
	root := t.TempDir()
	l := &ledger{root: root, path: filepath.Join(root, "a/b/file")}
	for _, content := range []string{"old", "new"} {
		if err := l.disk().replace(l.path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.disk().remove(l.path); err != nil {
		t.Fatal(err)
	}
	want := []string{
		".: nothing", "a: nothing", // the directories that were made
		"a new file: nothing", "a/b: old",
		"a new file: old", "a/b: new",
		"a/b: nothing",
	}
	if diff := cmp.Diff(want, l.synced); diff != "" {
		t.Errorf("what was synced, and what the file held then (-want +got):\n%s", diff)
	}
}

func TestAFailureLeavesTheOldContentOrTheNewAndNothingElse(t *testing.T) {
	for failAt, want := range map[int]string{1: "old", 2: "new"} {
		root := t.TempDir()
		path := filepath.Join(root, "file")
		if err := Replace(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		l := &ledger{root: root, path: path, failAt: failAt}
		if err := l.disk().replace(path, []byte("new"), 0o600); !errors.Is(err, errPower) || !strings.Contains(err.Error(), root) {
			t.Errorf("a failure of sync %d is reported as %v", failAt, err)
		}
		if got, err := os.ReadFile(path); string(got) != want {
			t.Errorf("after a failure of sync %d the file holds %q, %v", failAt, got, err)
		}
		if files, err := os.ReadDir(root); len(files) != 1 {
			t.Errorf("after a failure of sync %d there are %v, %v", failAt, files, err)
		}
	}
}

func TestAFileIsReplacedWithItsModeAndRemovedTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made/file")
	for _, mode := range []os.FileMode{0o644, 0o600} {
		if err := Replace(path, []byte(mode.String()), mode); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("the file has mode %v, %v", info.Mode(), err)
		}
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its directory has mode %v, %v", info.Mode(), err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	if err := Replace(filepath.Join(path, "below"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(path, "below", "a file"), nil, 0o600); err == nil {
		t.Error("a file was made below a file")
	}
}

func TestWhatAKilledWriterLeftIsRemovedAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	if err := Replace(filepath.Join(dir, "p.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".p.json-123", ".fence.json-9", "reserve"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTorn(dir); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	if diff := cmp.Diff([]string{"p.json", "reserve"}, left); diff != "" || err != nil {
		t.Errorf("left (-want +got): %v\n%s", err, diff)
	}
	if err := RemoveTorn(filepath.Join(dir, "none")); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}
