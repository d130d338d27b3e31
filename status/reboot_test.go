package status

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"
)

func TestAKernelAsksForARebootWhenANewerOneIsInstalled(t *testing.T) {
	old := &drydockv1.Kernel{Release: "6.12.94+deb13-amd64", Package: "linux-image-6.12.94+deb13-amd64", Version: "6.12.94-1"}
	newer := &drydockv1.Kernel{Release: "6.12.117+deb13-amd64", Package: "linux-image-6.12.117+deb13-amd64", Version: "6.12.117-1"}
	rebuilt := &drydockv1.Kernel{Release: old.Release, Package: old.Package, Version: "6.12.94-2"}
	const build = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.94-1 (2026-06-01)"
	for name, test := range map[string]struct {
		release, build string
		installed      []*drydockv1.Kernel
		want           string
	}{
		"the newest runs":                     {old.Release, build, []*drydockv1.Kernel{old}, ""},
		"a newer one is installed":            {old.Release, build, []*drydockv1.Kernel{newer, old}, "6.12.117+deb13-amd64 (6.12.117-1) is installed"},
		"the same release was rebuilt":        {old.Release, build, []*drydockv1.Kernel{rebuilt}, "(6.12.94-2) is installed"},
		"the one that runs was removed":       {old.Release, build, []*drydockv1.Kernel{newer}, "6.12.117"},
		"it names no version, and is newest":  {old.Release, "#1 SMP", []*drydockv1.Kernel{old}, ""},
		"it names no version, and is older":   {old.Release, "#1 SMP", []*drydockv1.Kernel{newer, old}, "6.12.117"},
		"it is of no package":                 {"6.18.44-custom", "#1 SMP", []*drydockv1.Kernel{newer, old}, ""},
		"none is installed, as in containers": {"6.18.44-custom", "#1 SMP", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := kernelStatus(test.release, test.build, &packages.Inventory{Kernels: test.installed})
			reason := kernelReason(k)
			if (reason == nil) != (test.want == "") || !strings.Contains(reason.GetText(), test.want) {
				t.Errorf("%v", reason)
			}
		})
	}
}

func TestTheFirstProcessTellsWhenTheHostBooted(t *testing.T) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	booted, err := bootTime("/proc", now)
	if err != nil || booted.After(now) || booted.Before(now.Add(-time.Duration(up.Nano())-time.Minute)) {
		t.Error(booted, err)
	}
	if _, err := bootTime(t.TempDir(), now); err == nil {
		t.Error("no process, and no error")
	}
}

// store is a package manager that answers what it is told to.
type store struct {
	inventory *packages.Inventory
	err       error
	watched   []string
	refreshed int
}

func (s *store) Collect(context.Context) (*packages.Inventory, error) {
	if s.err != nil {
		return nil, s.err
	}
	copied := *s.inventory
	copied.Status = &drydockv1.PackageStatus{State: &drydockv1.PartState{}, Updates: s.inventory.Status.GetUpdates(), Sources: s.inventory.Status.GetSources()}
	return &copied, nil
}

func (s *store) Refresh(context.Context) error { s.refreshed++; return nil }
func (s *store) Watched() []string             { return s.watched }

func newTestCollector(t *testing.T, s *store) *Collector {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "proc/10/maps"), "7f1-7f2 r-xp 00001000 08:01 8123 /usr/lib/libc.so.6 (deleted)\n")
	writeFile(t, filepath.Join(dir, "proc/10/cgroup"), "0::/drydock/pods/redis/main\n")
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "proc/1/stat"), string(stat))
	writeFile(t, filepath.Join(dir, "proc/1/maps"), "")
	writeFile(t, filepath.Join(dir, "run/other"), "")
	return &Collector{Packages: s, Pod: PodsBelow("/drydock"), Proc: filepath.Join(dir, "proc"), Run: filepath.Join(dir, "run"), Now: time.Now}
}

func TestARebootIsRequiredForEveryReasonThatIsKnown(t *testing.T) {
	s := &store{inventory: &packages.Inventory{Core: []packages.Installed{
		{Name: "libc6", At: time.Now()}, {Name: "systemd", At: time.Unix(0, 0)},
	}}}
	c := newTestCollector(t, s)
	writeFile(t, filepath.Join(c.Run, "reboot-required"), "*** System restart required ***\n")
	writeFile(t, filepath.Join(c.Run, "reboot-required.pkgs"), "linux-base\ndbus\nlinux-base\n")
	status, err := c.Collect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Reboot.Reasons) != 2 || !status.Reboot.Required || status.Reboot.State.Error != "" {
		t.Fatal(status.Reboot)
	}
	requested, core := status.Reboot.Reasons[0], status.Reboot.Reasons[1]
	if diff := cmp.Diff([]string{"dbus", "linux-base"}, requested.Packages); diff != "" || requested.Text != "System restart required" {
		t.Error(diff, requested)
	}
	if diff := cmp.Diff([]string{"libc6"}, core.Packages); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNotKnownIsSaidAndHidesNothingElse(t *testing.T) {
	c := newTestCollector(t, &store{err: errors.New("the lists are locked")})
	status, err := c.Collect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Processes.Stale) != 1 || status.Processes.Stale[0].Pod != "redis" || status.Processes.State.Error != "" {
		t.Error(status.Processes)
	}
	s := Summarize(status)
	if s.Unknown["packages"] != "the lists are locked" || s.Unknown["reboot"] == "" || s.Unknown["kernel"] == "" || s.Unknown["processes"] != "" {
		t.Error(s.Unknown)
	}
	if s.StaleInPods != 1 || s.Collected == nil {
		t.Error(s)
	}
	c.Packages = nil
	if status, err = c.Collect(context.Background()); err != nil || !strings.Contains(status.Packages.State.Error, "apt and dnf") {
		t.Error(status, err)
	}
}
