//go:build root

package patch_test

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/apttest"
	"drydock/patch"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// login stands for logind on a bus of its own: it hands out locks, and takes orders to reboot.
type login struct {
	mu       sync.Mutex
	held     []int
	asked    []string
	rebooted int
	blocked  bool
}

// Inhibit hands out one end of a pipe. The lock is held as long as that is open.
func (l *login) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, strings.Join([]string{what, who, why, mode}, "|"))
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.held = append(l.held, ends[0])
	time.AfterFunc(time.Second, func() { unix.Close(ends[1]) }) // once it was sent
	return dbus.UnixFD(ends[1]), nil
}

// Reboot notes whether a lock was held then.
func (l *login) Reboot(bool) *dbus.Error {
	blocked := l.isHeld()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rebooted++
	l.blocked = blocked
	return nil
}

// isHeld says whether a lock that was handed out is open yet.
func (l *login) isHeld() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.held {
		poll := []unix.PollFd{{Fd: int32(r), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&unix.POLLHUP == 0 {
			return true
		}
	}
	return false
}

func (l *login) times() (asked, rebooted int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked), l.rebooted
}

// newLogin starts a bus that takes the system's place in this test.
func newLogin(t *testing.T) *login {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("dbus-daemon", "--config-file="+conf, "--nofork", "--print-address")
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", strings.TrimSpace(address))
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	l := &login{}
	if err := bus.Export(l, "/org/freedesktop/login1", "org.freedesktop.login1.Manager"); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.RequestName("org.freedesktop.login1", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return l
}

// systemd puts a program in systemctl's place that says which units have failed, and is-system-running.
func systemd(t *testing.T, run, state string, failed ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(run, "systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nif [ $1 = is-system-running ]; then echo " + state + "; exit 1; fi\n"
	for _, unit := range failed {
		script += "echo '" + unit + " loaded failed failed A unit'\n"
	}
	if err := os.WriteFile(filepath.Join(run, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", run+":"+os.Getenv("PATH"))
}

func TestAnOccupiedHostIsRebootedByNobodyElse(t *testing.T) {
	l := newLogin(t)
	var cfg patch.Config
	h, _ := plain(t, func(c *patch.Config) {
		c.RebootCommand = nil
		systemd(t, c.Run, "degraded", "old.service")
		cfg = *c
	})
	occupy := func(h *patch.Host) {
		t.Helper()
		if held, _, err := h.Occupy(t.Context(), "rollout r1 patches it"); err != nil || !held {
			t.Fatal(held, err)
		}
	}
	occupy(h)
	occupy(h)
	if asked, _ := l.times(); asked != 1 || l.asked[0] != "shutdown|Drydock|rollout r1 patches it|block" || !l.isHeld() {
		t.Fatal(l.asked)
	}
	// An agent that starts anew takes it again in the same boot, and not in another.
	other := cfg
	other.Boot = "boot-2"
	var restarted *patch.Host
	for i, c := range []patch.Config{other, cfg} {
		again, err := patch.New(c)
		if err == nil {
			err = again.Resume(t.Context())
		}
		if asked, _ := l.times(); err != nil || asked != 1+i {
			t.Error(c.Boot, err, l.asked)
		}
		restarted = again
	}
	if err := errors.Join(h.Release(), restarted.Release()); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for l.isHeld() && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if l.isHeld() {
		t.Error("the host is occupied yet")
	}
}

func TestNobodyElseRebootsAHostWhilePodsAreOnItAlsoWhenNothingPatchesIt(t *testing.T) {
	l := newLogin(t)
	h, _ := plain(t, func(c *patch.Config) { systemd(t, c.Run, "running") })
	guard := func(pods bool) {
		t.Helper()
		if err := h.Guard(t.Context(), pods); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(want bool, when string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); l.isHeld() != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: held is %t", when, !want)
			}
		}
	}
	guard(false)
	holds(false, "without pods")
	guard(true)
	guard(true)
	if asked, _ := l.times(); asked != 1 {
		t.Error("asked", l.asked)
	}
	time.Sleep(1500 * time.Millisecond) // what logind holds of it itself is closed by then
	holds(true, "with pods")
	if _, _, err := h.Occupy(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	guard(false)
	holds(true, "once the pods have left for a rollout")
	guard(true)
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	holds(true, "once the rollout has ended, with pods back")
	guard(false)
	holds(false, "once the pods have left")
}

func TestLogindRebootsOnceTheLockIsReleased(t *testing.T) {
	l := newLogin(t)
	h, _ := plain(t, func(c *patch.Config) {
		c.RebootCommand = nil
		systemd(t, c.Run, "running")
	})
	if _, _, err := h.Occupy(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // what logind holds of it itself is closed by then
	if !l.isHeld() {
		t.Fatal("not held")
	}
	if res, err := h.Reboot(t.Context(), "boot-1", "", "test"); err != nil || len(res.Refusals) != 0 {
		t.Fatal(res, err)
	}
	for range 100 {
		if _, rebooted := l.times(); rebooted > 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, rebooted := l.times(); rebooted != 1 || l.blocked {
		t.Errorf("rebooted %d times, the lock was held: %v", rebooted, l.blocked)
	}
}

func TestUnitsThatFailAfterThePatchAreToldFromThoseThatHadFailedBefore(t *testing.T) {
	newLogin(t)
	var run string
	h, _ := plain(t, func(c *patch.Config) {
		run = c.Run
		systemd(t, run, "degraded", "old.service")
	})
	if _, _, err := h.Occupy(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	verify := func() *drydockv1.VerifyResponse {
		t.Helper()
		res, err := h.Verify(t.Context(), &drydockv1.VerifyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := verify(); len(res.Refusals) != 0 {
		t.Error(res)
	}
	systemd(t, run, "degraded", "old.service", "nginx.service")
	if res := verify(); len(res.Refusals) != 1 || !strings.HasPrefix(words(res.Refusals), "unit nginx.service has failed, and had not before the patch") {
		t.Error(res)
	}
	systemd(t, run, "starting", "nginx.service")
	if res := verify(); !res.Starting || len(res.Refusals) != 0 {
		t.Error(res)
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	systemd(t, run, "degraded", "old.service")
	if res := verify(); len(res.Refusals) != 1 {
		t.Error("what was remembered outlived the release:", res)
	}
}

func TestUnderSystemdWorkOnPackagesIsAUnitOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"})
	w.offer(apttest.Deb{Name: "tool", Version: "2.0"})
	p := w.Patch()
	if err := w.Download(p); err != nil {
		t.Fatal(err)
	}
	systemd(t, w.Path("run"), "running")
	run := "#!/bin/sh\necho \"$@\" >" + w.Path("asked") + "\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nsetsid \"$@\" >/dev/null 2>&1 &\n"
	w.Write("run/systemd-run", run)
	if err := os.Chmod(w.Path("run/systemd-run"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.Done(w.Apply(p))
	w.at(map[string]string{"tool": "2.0"})
	if asked := w.Read("asked"); !strings.Contains(asked, "--unit=drydock-patch-r1_h1-") || !strings.Contains(asked, "--property=KillMode=process") {
		t.Error(asked)
	}
}

func TestWithoutLogindNothingIsSaidToBeHeld(t *testing.T) {
	h, _ := plain(t, func(c *patch.Config) { c.Log = slog.New(slog.DiscardHandler) })
	if held, _, err := h.Occupy(t.Context(), "test"); err != nil || held {
		t.Error(held, err)
	}
	if err := h.Release(); err != nil {
		t.Error(err)
	}
}
