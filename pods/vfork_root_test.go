//go:build root

package pods

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vforkEnv has this test's program make children with vfork, each of which starts no program for so long.
const vforkEnv = "DRYDOCK_TEST_VFORK"

// TestMain is the forking program's, where it is asked for.
func TestMain(m *testing.M) {
	if text := os.Getenv(vforkEnv); text != "" {
		child, err := time.ParseDuration(text)
		if err != nil {
			panic(err)
		}
		vforkForEver(child)
	}
	os.Exit(m.Run())
}

func vforkForEver(child time.Duration) {
	sleep := unix.NsecToTimespec(child.Nanoseconds())
	fmt.Println("here")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	for {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_VFORK, 0, 0, 0, 0, 0)
		if errno != 0 {
			panic(errno)
		}
		if pid == 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&sleep)), 0, 0)
			for {
				_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
		}
		if _, err := syscall.Wait4(int(pid), nil, 0, nil); err != nil {
			panic(err)
		}
		time.Sleep(child)
	}
}

// forking starts the forking program in a cgroup of its own.
func forking(t *testing.T, child time.Duration) cgroup {
	t.Helper()
	c := cgroupAt("drydock-vfork-" + strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), vforkEnv+"="+child.String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.killAll(context.Background()); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if err := removeCgroup(filepath.Base(c.dir)); err != nil {
			t.Error(err)
		}
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	// It is moved before it forks: a child is born where its parent is.
	if err := os.WriteFile(filepath.Join(c.dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte{'\n'}); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNoProcessIsFrozenBetweenVforkAndItsProgram(t *testing.T) {
	c := forking(t, 3*time.Millisecond)
	between := 0
	for range 50 {
		if err := c.freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(alive(t, c)) > 1 {
			between++
		}
		if err := c.thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.freezeWhole(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found := alive(t, c); len(found) != 1 {
			t.Fatalf("a parent is frozen with its child: processes %v", found)
		}
		if err := c.thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if between == 0 {
		t.Error("no freeze met a child, so this shows nothing")
	}
	t.Logf("%d of 50 plain freezes met a child", between)
}

func TestAChildThatStartsNoProgramIsNamedAndNotWaitedForForEver(t *testing.T) {
	c := forking(t, time.Hour)
	for {
		if len(alive(t, c)) == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := c.freezeWhole(t.Context()); err == nil || !strings.Contains(err.Error(), "made a child with vfork that starts no program") {
		t.Fatalf("it says %v", err)
	}
}

// alive lists the processes of a group that have not ended.
func alive(t *testing.T, c cgroup) []int {
	t.Helper()
	pids, err := c.pids()
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && rest[0] != 'Z' && rest[0] != 'X' {
			found = append(found, pid)
		}
	}
	return found
}
