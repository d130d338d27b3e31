//go:build root

package filesync

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// storeInto names, in the environment of a run of this test program, the file that it maps and stores into instead of
// running tests.
const storeInto = "FILESYNC_STORE_INTO"

const mappedPages = 64

func TestMain(m *testing.M) {
	if path := os.Getenv(storeInto); path != "" {
		os.Exit(keepStoring(path))
	}
	os.Exit(m.Run())
}

// keepStoring is a program whose data is a file that it has mapped: it reads all of it, says so, and goes on to change every
// page until it is killed.
func keepStoring(path string) int {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 1
	}
	page := os.Getpagesize()
	mapped, err := unix.Mmap(int(file.Fd()), 0, mappedPages*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 1
	}
	_ = bytes.Count(mapped, []byte{0}) // a page that was read first may be stored into without a fault
	if _, err := os.Stdout.WriteString("."); err != nil {
		return 1
	}
	for n := 0; ; n++ {
		mapped[n%mappedPages*page+n/mappedPages%page]++
	}
}

// program starts the storing program, and returns how to stand it still.
func program(t *testing.T, path string) (freeze func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), storeInto+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var status unix.WaitStatus
		_, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		if err != nil || !status.Stopped() {
			t.Fatalf("the program does not stand still: %v, %v", status, err)
		}
	}
}

func TestNoStoreOfAProgramThatHasItsFileMappedIsLost(t *testing.T) {
	memory := func(t *testing.T, kind string) string {
		root := t.TempDir()
		if err := unix.Mount("filesync-test", root, kind, 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		return root
	}
	for name, root := range map[string]func(*testing.T) string{
		"on a disk": func(t *testing.T) string { return t.TempDir() },
		"on tmpfs":  func(t *testing.T) string { return memory(t, "tmpfs") },
		"on ramfs":  func(t *testing.T) string { return memory(t, "ramfs") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPairFrom(t, root(t))
			d := dir{t, p.from}
			d.writeAt("data", 0, random(mappedPages*os.Getpagesize()))
			freeze := program(t, d.path("data"))
			for range 4 {
				p.pass(t, PassOptions{Sync: true})
				time.Sleep(100 * time.Millisecond) // the last trace gets old, as in a service that has run for a while
			}
			freeze()
			p.pass(t, PassOptions{Final: true})
			p.equal(t)
		})
	}
}
