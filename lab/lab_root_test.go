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
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain makes this program what the hosts run, as drydock is outside of tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "lab" {
		if err := HostMain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv("LABTEST_CONTROLLER") != "" {
		fmt.Fprintln(os.Stderr, standInController())
		os.Exit(1)
	}
	if name := os.Getenv("LABTEST_UP"); name != "" {
		_, err := Up(context.Background(), testOptions(name, 2, os.Stdout))
		fmt.Println("ended:", err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

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
	err := inNetNS(l.NetNS(from), func() error {
		c, err := net.DialTimeout("tcp", l.Address(to)+":9", time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
	return err == nil || errors.Is(err, unix.ECONNREFUSED)
}

// comesBack waits until the client reaches a host again. It may take a second: the client asks for the host's hardware
// address once in that time, and did so in vain before.
func comesBack(t *testing.T, l *Lab, host string) {
	t.Helper()
	if err := waitFor(testContext(t), host, func() bool { return reaches(t, l, ClientNode, host) }); err != nil {
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

func TestALabsHostsAreApartAndReachEachOther(t *testing.T) {
	l := bringUp(t, "lt-apart")
	for _, pair := range [][2]string{{"h1", "h2"}, {"h2", "ctl"}, {"client", "h1"}, {"ctl", "client"}} {
		if !reaches(t, l, pair[0], pair[1]) {
			t.Errorf("%s does not reach %s", pair[0], pair[1])
		}
	}
	own := map[string]string{
		"machine id": "/etc/machine-id", "boot id": "/proc/sys/kernel/random/boot_id", "host name": "/proc/sys/kernel/hostname",
	}
	for what, path := range own {
		one, two := mustRun(t, l, "h1", "cat", path), mustRun(t, l, "h2", "cat", path)
		machine, _ := os.ReadFile(path)
		if one == "" || one == two || one == strings.TrimSpace(string(machine)) {
			t.Errorf("%s: h1 %q, h2 %q, machine %q", what, one, two, machine)
		}
	}
	for _, space := range []string{"mnt", "pid", "uts", "ipc", "net"} {
		one, two := mustRun(t, l, "h1", "readlink", "/proc/1/ns/"+space), mustRun(t, l, "h2", "readlink", "/proc/1/ns/"+space)
		machine, _ := os.Readlink("/proc/self/ns/" + space)
		if one == two || one == machine {
			t.Errorf("namespace %s: h1 %s, h2 %s, machine %s", space, one, two, machine)
		}
	}
	mustRun(t, l, "h1", "sh", "-c", "echo hello >/srv/shared/x")
	if got := mustRun(t, l, "h2", "cat", "/srv/shared/x"); got != "hello" {
		t.Errorf("h2 read %q from the shared directory", got)
	}
	mustRun(t, l, "h1", "ctr", "version")
	mustRun(t, l, "h1", "criu", "check")
	if err := l.Exec(testContext(t), "h1", "sh", "-c", "exit 7").Run(); err == nil || err.Error() != "exit status 7" {
		t.Errorf("exit status 7 came back as %v", err)
	}
}

func TestAServiceThatIsKilledComesBackAndWhatItLeftKeepsRunning(t *testing.T) {
	l := bringUp(t, "lt-services")
	ctx := testContext(t)
	left := mustRun(t, l, "h1", "pgrep", "-xf", "sleep 1001")
	before, err := l.ServicePID("h1", "sleeper")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(before, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(ctx, "the service", func() bool {
		now, err := l.ServicePID("h1", "sleeper")
		return err == nil && now != before
	}); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, l, "h1", "ps", "-o", "ppid=", "-p", left); strings.TrimSpace(got) != "1" {
		t.Errorf("parent of what the service left is %q", got)
	}
	s, err := l.Status()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Hosts, func(h HostStatus) bool { return h.Name == "h1" })
	if got := s.Hosts[i].Services[1]; got != (ServiceStatus{Name: "sleeper", Up: true, Restarts: 1}) || s.State != StateUp {
		t.Errorf("status is %+v, lab %s", got, s.State)
	}
}

func TestAHostRebootsWithANewBootIDAndItsDisk(t *testing.T) {
	l := bringUp(t, "lt-reboot")
	for _, ask := range []func() error{
		func() error { return l.RebootHost(testContext(t), "h1") },
		func() error { // reboot(2), as a program in the host calls it
			before := mustRun(t, l, "h1", "cat", "/proc/sys/kernel/random/boot_id")
			mustRun(t, l, "h1", "sh", "-c", "kill -HUP 1")
			return waitFor(testContext(t), "reboot", func() bool {
				out, err := l.Exec(testContext(t), "h1", "cat", "/proc/sys/kernel/random/boot_id").Output()
				return err == nil && strings.TrimSpace(string(out)) != before
			})
		},
	} {
		boot, machine := mustRun(t, l, "h1", "cat", "/proc/sys/kernel/random/boot_id"), mustRun(t, l, "h1", "cat", "/etc/machine-id")
		mustRun(t, l, "h1", "sh", "-c", "echo kept >/root/disk; echo gone >/run/memory")
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		if got := mustRun(t, l, "h1", "cat", "/proc/sys/kernel/random/boot_id"); got == boot {
			t.Error("same boot id")
		}
		if got := mustRun(t, l, "h1", "cat", "/etc/machine-id"); got != machine {
			t.Error("another machine id")
		}
		if got := mustRun(t, l, "h1", "sh", "-c", "cat /root/disk; test -e /run/memory || echo no"); got != "kept\nno" {
			t.Errorf("files after the reboot: %q", got)
		}
		comesBack(t, l, "h1")
	}
}

func TestAKilledHostIsSilentUntilItIsStarted(t *testing.T) {
	l := bringUp(t, "lt-kill")
	ctx := testContext(t)
	frozen := freezeSleeper(t, l, "h1")
	if err := l.KillHost(ctx, "h1"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(frozen, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the frozen process is still there: %v", err)
	}
	if reaches(t, l, "client", "h1") {
		t.Error("a dead host answers")
	}
	if _, err := l.ServicePID("h1", "containerd"); !errors.Is(err, ErrDown) {
		t.Errorf("got %v", err)
	}
	if err := l.Exec(ctx, "h1", "true").Run(); !errors.Is(err, ErrDown) {
		t.Errorf("exec on a dead host: %v", err)
	}
	if s, err := l.Status(); err != nil || s.State != StateDegraded {
		t.Errorf("status %v, %v", s.State, err)
	}
	if err := l.StartHost(ctx, "h1"); err != nil {
		t.Fatal(err)
	}
	comesBack(t, l, "h1")
}

func TestAnInitThatDiesTakesEvenFrozenProcessesWithIt(t *testing.T) {
	l := bringUp(t, "lt-init")
	frozen := freezeSleeper(t, l, "h2")
	pid, err := l.InitPID("h2")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(testContext(t), "the host's end", func() bool {
		_, err := os.Stat(l.runningRecord("h2"))
		return errors.Is(err, os.ErrNotExist)
	}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(frozen, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the frozen process is still there: %v", err)
	}
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

func TestFaultsBreakAndSlowLinksAndHeal(t *testing.T) {
	l := bringUp(t, "lt-faults")
	set := func(faults ...Fault) {
		t.Helper()
		if err := l.SetFaults(faults...); err != nil {
			t.Fatal(err)
		}
	}
	set(Partition("h1", "h2")...)
	if reaches(t, l, "h1", "h2") || !reaches(t, l, "h1", "ctl") {
		t.Error("a partition of h1 and h2 breaks the wrong links")
	}
	set(Fault{From: "h1", Drop: true})
	if reaches(t, l, "ctl", "h1") {
		t.Error("h1's answers pass a half-open link")
	}
	set()
	if !reaches(t, l, "h1", "h2") {
		t.Error("h1 and h2 are apart after healing")
	}
	free := transfer(t, l, 2<<20)
	set(Fault{From: "client", To: "h1", Rate: 1 << 20})
	if slow := transfer(t, l, 2<<20); slow < 5*free || slow < time.Second {
		t.Errorf("2 MiB took %v, and %v at 1 MiB/s", free, slow)
	}
	set()
	if err := l.SetLink("h1", false); err != nil {
		t.Fatal(err)
	}
	if reaches(t, l, "client", "h1") {
		t.Error("h1 answers without a cable")
	}
	if err := l.SetLink("h1", true); err != nil {
		t.Fatal(err)
	}
	comesBack(t, l, "h1")
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
	err := inNetNS(l.NetNS(ClientNode), func() error {
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
	err := inNetNS(l.NetNS(node), func() error {
		var err error
		ln, err = net.Listen("tcp", l.Address(node)+":999")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func TestUpRefusesALabThatIsUpAndTwoLabsLiveSideBySide(t *testing.T) {
	one := bringUp(t, "lt-one")
	bringUp(t, "lt-two")
	if _, err := Up(testContext(t), testOptions("lt-one", 2, nil)); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v", err)
	}
	if err := Down(testContext(t), "lt-two"); err != nil {
		t.Fatal(err)
	}
	if !reaches(t, one, "h1", "h2") {
		t.Error("the first lab went with the second")
	}
	soft, err := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft")
	if err != nil || strings.TrimSpace(string(soft)) != "0" {
		t.Errorf("the machine's setting is %q, %v", soft, err)
	}
}

func TestNothingIsLeftOfAnUpThatWasKilledAnywhere(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const name = "lt-cut"
	before := netNamespaces(t)
	setting, _ := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft")
	for _, after := range []string{"root file system", "files", "machine settings", "switch and client", "controller", "hosts", "ready", "context"} {
		t.Run("after "+after, func(t *testing.T) {
			contexts := filepath.Join(t.TempDir(), "contexts.yaml")
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), "LABTEST_UP="+name, "DRYDOCK_CONTEXTS="+contexts)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			seen := readUntil(out, after)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if !strings.Contains(seen, after) {
				t.Errorf("it never came so far:\n%s", seen)
			}
			if err := Down(testContext(t), name); err != nil {
				t.Fatal(err)
			}
			nothingLeft(t, name)
		})
	}
	if err := waitFor(testContext(t), "the network namespaces to go", func() bool {
		return !slices.ContainsFunc(netNamespaces(t), func(ns string) bool { return !slices.Contains(before, ns) })
	}); err != nil {
		t.Error(err)
	}
	if now, _ := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft"); !bytes.Equal(now, setting) {
		t.Errorf("the machine's setting was %q and is %q", setting, now)
	}
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
