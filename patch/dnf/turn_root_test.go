//go:build root

package dnf_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/internal/dnftest"
	"drydock/patch"

	drydockv1 "drydock/api/drydock/v1"
)

// rpmLock is where rpm has its lock.
func (w *world) rpmLock() string {
	w.t.Helper()
	found := ""
	err := filepath.WalkDir(w.Root, func(path string, d fs.DirEntry, err error) error {
		if d.Name() == ".rpm.lock" {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		w.t.Fatal("rpm has no lock:", err)
	}
	return found
}

func TestItWaitsForOthersThatWorkOnPackagesAndSaysWho(t *testing.T) {
	const holds = "import fcntl, os, sys\nf = open(sys.argv[1], 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()"
	const writes = "import os, sys\nos.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)\nwith open(sys.argv[1], 'w') as f:\n    f.write(str(os.getpid()))\nprint('held', flush=True)\nsys.stdin.read()"
	for name, test := range map[string]struct {
		lock   func(w *world) string
		script string
	}{
		"dnf": {func(w *world) string { return w.Path("root/var/lib/dnf/rpmdb_lock.pid") }, writes},
		"rpm": {(*world).rpmLock, holds},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Install(dnftest.RPM{Name: "tool", Version: "1.0"})
			w.offer(dnftest.RPM{Name: "tool", Version: "2.0"})
			p := w.Ready()
			lock := test.lock(w)
			other := exec.Command("python3", "-c", test.script, lock)
			in, err := other.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := other.StdoutPipe()
			if err == nil {
				err = other.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			end := sync.OnceFunc(func() { in.Close(); _ = other.Wait() })
			defer end()
			if _, err := out.Read(make([]byte, len("held\n"))); err != nil {
				t.Fatal(err)
			}
			told := make(chan string, 100)
			var group sync.WaitGroup
			var result *drydockv1.PatchResult
			group.Go(func() {
				result = w.ApplyWith(patch.Order{ID: "a", Patch: p, Conffiles: patch.Keep}, func(_ int32, activity string) { told <- activity })
			})
			for activity := range told {
				if strings.HasPrefix(activity, "waits: ") {
					if !strings.Contains(activity, "python3 -c") || !strings.Contains(activity, "(process "+strconv.Itoa(other.Process.Pid)+") holds ") || !strings.HasSuffix(activity, lock) {
						t.Error(activity)
					}
					break
				}
			}
			w.at(map[string]string{"tool": "1.0"})
			end()
			group.Wait()
			w.Done(result)
			w.at(map[string]string{"tool": "2.0"})
		})
	}
}

func TestALockOfAProcessThatWasKilledIsNotWaitedForThoughItsNumberIsInUse(t *testing.T) {
	w := newWorld(t)
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0"})
	p := w.Ready()
	const lock = "root/var/lib/dnf/rpmdb_lock.pid"
	w.Write(lock, strconv.Itoa(os.Getpid()))
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(w.Path(lock), long, long); err != nil {
		t.Fatal(err)
	}
	w.Done(w.Apply(p))
	w.at(map[string]string{"tool": "2.0"})
}
