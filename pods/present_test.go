package pods

import (
	"os"
	"path/filepath"
	"testing"
)

func TestACgroupIsPopulatedWhereAProcessIsInItOrBelow(t *testing.T) {
	dir := t.TempDir()
	if busy, err := populated(filepath.Join(dir, "nowhere")); err != nil || busy {
		t.Error("a cgroup that is gone:", busy, err)
	}
	deep := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(dir, "")
	put(deep, "")
	if busy, err := populated(dir); err != nil || busy {
		t.Error("empty ones:", busy, err)
	}
	put(deep, "42\n")
	if busy, err := populated(dir); err != nil || !busy {
		t.Error("a process below:", busy, err)
	}
}
