//go:build root

package dnf_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/dnftest"
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
	t       *testing.T
	host    *patch.Host
	running string
	look    func(ctx context.Context, refresh bool) (*drydockv1.HostStatus, error)
	// late is how far the clock is ahead.
	late time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: dnftest.New(t), t: t, running: "6.12.94-1.noarch"}
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
	w.host, err = patch.New(patch.Config{
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

func (w *world) resolve(policy *drydockv1.PatchPolicy) *drydockv1.ResolveResponse {
	w.t.Helper()
	res, err := w.host.Resolve(context.Background(), policy, true)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

var all = &drydockv1.PatchPolicy{What: patch.All}

// patch is that of all updates, and nothing is in its way.
func (w *world) patch() *drydockv1.Patch {
	w.t.Helper()
	res := w.resolve(all)
	if len(res.Refusals) != 0 || len(res.Patch.Packages) == 0 {
		w.t.Fatal(res)
	}
	return res.Patch
}

func (w *world) download(p *drydockv1.Patch) error {
	return w.host.Download(context.Background(), p, func(int32, string) {})
}

// ready is the patch of all updates, downloaded.
func (w *world) ready() *drydockv1.Patch {
	w.t.Helper()
	p := w.patch()
	if err := w.download(p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) apply(p *drydockv1.Patch) *drydockv1.PatchResult {
	w.t.Helper()
	return w.applyWith(patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep}, func(int32, string) {})
}

func (w *world) applyWith(o patch.Order, tell patch.Tell) *drydockv1.PatchResult {
	w.t.Helper()
	result, err := w.host.Apply(context.Background(), o, tell)
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

// done fails the test where a result says that the patch was not applied.
func (w *world) done(result *drydockv1.PatchResult) {
	w.t.Helper()
	if !result.Done || len(result.Refusals) != 0 {
		w.t.Fatalf("not done: %v\n%s", result.Refusals, result.Log)
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

// reasons are those of an error or a list, in one text.
func reasons(what any) string {
	var list []*drydockv1.Refusal
	switch what := what.(type) {
	case []*drydockv1.Refusal:
		list = what
	case error:
		var refused *patch.Refused
		if errors.As(what, &refused) {
			list = refused.Reasons
		}
	}
	var text strings.Builder
	for _, r := range list {
		if r.Remedy == "" {
			return ""
		}
		text.WriteString(r.Reason + "\n")
	}
	return text.String()
}

// slow is a scriptlet that waits, once it has said that it runs, until it is let go.
const slow = ": >/stands\nn=0\nwhile [ -e /stands ] && [ $n -lt 9000 ]; do sleep 0.1; n=$((n+1)); done"

func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	for range 12000 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("waited in vain: %s", what)
}

func (w *world) exists(name string) bool {
	_, err := os.Stat(w.Path(name))
	return err == nil
}

// processes are those of this world whose command line begins with a program.
func (w *world) processes(program string) []int {
	w.t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		w.t.Fatal(err)
	}
	var pids []int
	for _, dir := range found {
		line, _ := os.ReadFile(dir + "/cmdline")
		work, _ := os.Readlink(dir + "/fd/1")
		name, _, _ := strings.Cut(string(line), "\x00")
		if filepath.Base(name) == program && strings.HasPrefix(work, w.Top) {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// kill ends processes of this world without warning.
func (w *world) kill(programs ...string) {
	w.t.Helper()
	for _, program := range programs {
		pids := w.processes(program)
		if len(pids) == 0 {
			w.t.Fatalf("no %s runs", program)
		}
		for _, pid := range pids {
			p, err := os.FindProcess(pid)
			if err == nil {
				err = p.Kill()
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}
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
