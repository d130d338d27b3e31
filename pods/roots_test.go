package pods

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheMountRootsOfAKilledRestoreAreRemovedAndNoOthers(t *testing.T) {
	left, other := makeRoot(t), makeRoot(t)
	work := t.TempDir()
	log := "(00.019510) mnt: \t\tWill mount 917 @ " + left + "/mnt-0000000917 /sys/firmware\n" +
		"(00.019511) mnt: \t\tWill mount 914 @ " + left + "/mnt-0000000914 /sys\n"
	if err := os.WriteFile(filepath.Join(work, "restore.log"), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := RemoveRoots(Restore{Work: work}); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s: %v", left, err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	if err := RemoveRoots(Restore{Work: t.TempDir()}); err != nil {
		t.Errorf("without a log: %v", err)
	}
}

// makeRoot makes a directory as CRIU names them.
func makeRoot(t *testing.T) string {
	t.Helper()
	for last := 'a'; ; last++ {
		dir := "/tmp/.criu.mntns.abcDE" + string(last)
		err := os.Mkdir(dir, 0o700)
		if os.IsExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
		return dir
	}
}
