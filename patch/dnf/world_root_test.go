//go:build root

package dnf_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/dnftest"
	"drydock/internal/patchtest"
	"drydock/patch"
	"drydock/patch/dnf"
	"drydock/status"
	"drydock/status/packages"
	statusdnf "drydock/status/packages/dnf"
)

// TestMain is also the program that works on packages.
func TestMain(m *testing.M) {
	if len(os.Args) != 4 || os.Args[1] != "act" {
		os.Exit(m.Run())
	}
	err := patch.RunJob(context.Background(), os.Args[3], func(string) (patch.Installer, error) { return installer(os.Args[2]), nil })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// installer is that of the world whose files lie in a directory.
func installer(top string) *dnf.Dnf {
	return &dnf.Dnf{
		Library:    statusdnf.Library{Config: filepath.Join(top, "dnf.conf"), Root: filepath.Join(top, "root"), Release: dnftest.Release},
		Unfinished: filepath.Join(top, "data/patches/unfinished.json"),
	}
}

// world is a host with packages of its own that can be patched.
type world struct {
	*dnftest.World
	patchtest.Patcher
	t       *testing.T
	running string
	look    func(ctx context.Context, refresh bool) (*drydockv1.HostStatus, error)
	// late is how far the clock is ahead.
	late time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: dnftest.New(t), Patcher: patchtest.Patcher{T: t}, t: t, running: "6.12.94-1.noarch"}
	with := installer(w.Top)
	provider := &statusdnf.Dnf{Library: with.Library, Memory: packages.NewMemory(w.Path("memory.json")), MaxAge: 7 * 24 * time.Hour, Now: func() time.Time { return time.Now().Add(w.late) }}
	with.Judge = provider
	collector := status.NewCollector(provider, func([]string) string { return "" }, false)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.look = func(ctx context.Context, refresh bool) (*drydockv1.HostStatus, error) {
		find := collector.Collect
		if refresh && w.late == 0 {
			find = collector.Refresh
		}
		found, err := find(ctx)
		if err == nil {
			found.Kernel.Running, found.Kernel.RunningVersion, found.Reboot = w.running, "", nil
		}
		return found, err
	}
	w.Make("boot")
	w.Host, err = patch.New(patch.Config{
		Dir: w.Path("data/patches"), Installer: with, Program: []string{self, "act", w.Top},
		Look:       w.look,
		Users:      func(context.Context, []string) ([]string, error) { return nil, nil },
		Pods:       func(context.Context) ([]string, error) { return nil, nil },
		Containerd: func(context.Context) (string, error) { return "v2", nil },
		Boot:       "boot-1", BootDir: w.Path("boot"), Run: w.Path("run"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// offer publishes packages in place of those that were offered.
func (w *world) offer(rpms ...dnftest.RPM) {
	w.t.Helper()
	var files []string
	for _, r := range rpms {
		files = append(files, w.Build(r))
	}
	w.Publish("base", "", "repo", files...)
	if _, err := os.Stat(w.Path("repos.d/base.repo")); err != nil {
		w.Trust("base")
	}
}

// at fails the test where rpm has another version.
func (w *world) at(versions map[string]string) {
	w.t.Helper()
	for name, want := range versions {
		if got := w.Installed(name); got != want {
			w.t.Errorf("%s is at %q, and not at %q", name, got, want)
		}
	}
}

// slow is a scriptlet that waits, once it has said that it runs, until it is let go.
const slow = ": >/stands\nn=0\nwhile [ -e /stands ] && [ $n -lt 9000 ]; do sleep 0.1; n=$((n+1)); done"

func (w *world) exists(name string) bool {
	_, err := os.Stat(w.Path(name))
	return err == nil
}

// processes are those of this world whose command line begins with a program.
func (w *world) processes(program string) []int {
	w.t.Helper()
	return w.Processes(func(dir string) bool {
		line, _ := os.ReadFile(dir + "/cmdline")
		work, _ := os.Readlink(dir + "/fd/1")
		name, _, _ := strings.Cut(string(line), "\x00")
		return filepath.Base(name) == program && strings.HasPrefix(work, w.Top)
	})
}

// kill ends processes of this world without warning.
func (w *world) kill(programs ...string) {
	w.t.Helper()
	for _, program := range programs {
		w.Kill(program, w.processes(program))
	}
}

// self is the name of the program that works on packages.
func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return filepath.Base(path)
}
