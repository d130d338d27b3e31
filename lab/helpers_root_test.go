//go:build root

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testOptions(name string, hosts int, progress io.Writer) Options {
	return Options{
		Name: name, Hosts: hosts, Progress: progress,
		HostServices:       []Service{Containerd(), {Name: "sleeper", Argv: []string{"sh", "-c", "setsid sleep 1001 & exec sleep 1000"}}},
		ControllerServices: []Service{},
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// bringUp makes a lab that is removed, without a trace, when the test ends.
func bringUp(t *testing.T, name string) *Lab {
	t.Helper()
	t.Setenv("DRYDOCK_CONTEXTS", filepath.Join(t.TempDir(), "contexts.yaml"))
	var progress bytes.Buffer
	l, err := Up(testContext(t), testOptions(name, 2, &progress))
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	t.Log("\n" + progress.String())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := Down(ctx, name); err != nil {
			t.Error(err)
		}
		nothingLeft(t, name)
	})
	return l
}

func mustRun(t *testing.T, l *Lab, node string, argv ...string) string {
	t.Helper()
	out, err := l.Exec(testContext(t), node, argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %v\n%s", node, argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

func reaches(t *testing.T, l *Lab, from, to string) bool {
	t.Helper()
	err := l.InNetNS(from, func() error {
		c, err := net.DialTimeout("tcp", l.Address(to)+":9", time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
	return err == nil || errors.Is(err, unix.ECONNREFUSED)
}

// comesBack waits until one node reaches another again. It may take a second: a node asks for the other's hardware
// address once in that time, and did so in vain before.
func comesBack(t *testing.T, l *Lab, from, to string) {
	t.Helper()
	if err := waitFor(testContext(t), to, func() bool { return reaches(t, l, from, to) }); err != nil {
		t.Error(err)
	}
}

// nothingLeft looks for what a lab makes, by other means than Down's.
func nothingLeft(t *testing.T, name string) {
	t.Helper()
	for _, path := range []string{filepath.Join(stateTop, name), filepath.Join(runTop, name)} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(mounts), "/"+name+"/") {
		t.Errorf("mounts are left:\n%s", mounts)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/drydock-lab/" + name)
	unified, _ := filepath.Glob("/sys/fs/cgroup/drydock-lab/" + name)
	if left := append(groups, unified...); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var left string // the machine's own init may take a moment to bury what was left to it
	if err := waitFor(ctx, "the last process", func() bool { left = labProcesses(t, name); return left == "" }); err != nil {
		t.Errorf("processes are left:\n%s", left)
	}
}

func labProcesses(t *testing.T, name string) string {
	t.Helper()
	var found strings.Builder
	for _, pid := range allPIDs(t) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if strings.Contains(string(group), "drydock-lab/"+name) || strings.Contains(string(cmdline), stateTop+"/"+name+"/") {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			fmt.Fprintf(&found, "%d %q %s\n", pid, cmdline, stat)
		}
	}
	return found.String()
}

func allPIDs(t *testing.T) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// netNamespaces is every network namespace that a process or a pin holds.
func netNamespaces(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pid := range allPIDs(t) {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil {
			all = append(all, ns)
		}
	}
	mounts, err := mountTable()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.fstype == "nsfs" {
			all = append(all, m.root)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// freezeSleeper moves a process of the host into a cgroup for pods and freezes it, as an agent that dies may leave it.
func freezeSleeper(t *testing.T, l *Lab, host string) int {
	t.Helper()
	group := filepath.Join(l.nodeGroup(host), "pod")
	if err := makeGroup(group); err != nil {
		t.Fatal(err)
	}
	pid, err := l.ServicePID(host, "sleeper")
	if err != nil {
		t.Fatal(err)
	}
	hs, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hs {
		if err := os.WriteFile(filepath.Join(h.dir(group), "cgroup.procs"), fmt.Append(nil, pid), 0); err != nil {
			t.Fatal(err)
		}
		if h.freezer {
			err = os.WriteFile(filepath.Join(h.dir(group), "freezer.state"), []byte("FROZEN"), 0)
		} else if _, serr := os.Stat(filepath.Join(h.dir(group), "cgroup.freeze")); serr == nil && len(hs) == 1 {
			err = os.WriteFile(filepath.Join(h.dir(group), "cgroup.freeze"), []byte("1"), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return pid
}

// transfer sends n bytes from the client to h1 and waits until all have arrived.
func transfer(t *testing.T, l *Lab, n int) time.Duration {
	t.Helper()
	ln := listenIn(t, l, "h1")
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, _ = io.CopyN(io.Discard, c, int64(n))
			c.Close()
		}
	}()
	start := time.Now()
	var c net.Conn
	err := l.InNetNS(ClientNode, func() error {
		var err error
		c, err = net.Dial("tcp", l.Address("h1")+":999")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return time.Since(start)
}

func listenIn(t *testing.T, l *Lab, node string) net.Listener {
	t.Helper()
	var ln net.Listener
	err := l.InNetNS(node, func() error {
		var err error
		ln, err = net.Listen("tcp", l.Address(node)+":999")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// readUntil reads until text came, or all.
func readUntil(r io.Reader, text string) string {
	var seen []byte
	buf := make([]byte, 256)
	for !bytes.Contains(seen, []byte(text)) {
		n, err := r.Read(buf)
		seen = append(seen, buf[:n]...)
		if err != nil {
			break
		}
	}
	return string(seen)
}
