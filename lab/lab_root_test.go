//go:build root

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
		comesBack(t, l, ClientNode, "h1")
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
	comesBack(t, l, ClientNode, "h1")
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
	comesBack(t, l, "h1", "h2")
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
	comesBack(t, l, ClientNode, "h1")
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
