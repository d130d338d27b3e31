//go:build root

package patch_test

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
	"drydock/internal/apttest"
	"drydock/internal/patchtest"
	"drydock/patch"
	"drydock/patch/apt"
	"drydock/status"
	"drydock/status/packages"
	statusapt "drydock/status/packages/apt"

	"google.golang.org/protobuf/encoding/protojson"
)

// TestMain is also the program that works on packages, and one that asks for it and may be killed.
func TestMain(m *testing.M) {
	if len(os.Args) < 4 || os.Args[1] != "act" {
		os.Exit(m.Run())
	}
	act := map[string]func(conf, dir string) error{"installer": actInstaller, "agent": actAgent}[os.Args[2]]
	if err := act(os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func actInstaller(conf, dir string) error {
	return patch.RunJob(context.Background(), dir, func(string) (patch.Installer, error) { return &apt.Apt{Config: conf}, nil })
}

// actAgent asks for what the file named order.json in a directory says.
func actAgent(conf, dir string) error {
	p := &drydockv1.Patch{}
	data, err := os.ReadFile(filepath.Join(dir, "order.json"))
	if err == nil {
		err = protojson.Unmarshal(data, p)
	}
	if err != nil {
		return err
	}
	h, err := patch.New(patch.Config{Dir: filepath.Join(dir, "patches"), Installer: &apt.Apt{Config: conf}, Program: program(conf), Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		_, err = h.Apply(context.Background(), patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep}, patchtest.Quiet)
	}
	return err
}

func program(conf string) []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return []string{self, "act", "installer", conf}
}

// world is a host with packages of its own that can be patched.
type world struct {
	*apttest.World
	patchtest.Patcher
	t   *testing.T
	cfg patch.Config
	// running is the kernel that seems to run.
	running string
	// pods are those that seem to be here.
	pods []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: apttest.New(t), Patcher: patchtest.Patcher{T: t}, t: t, running: "6.12.94+deb13-amd64"}
	// Tests publish at times of their own.
	provider := &statusapt.Apt{Memory: packages.NewMemory(w.Path("memory.json")), MaxAge: 7 * 24 * time.Hour, Config: w.Path("apt.conf"), Now: func() time.Time { return w.Now }}
	collector := status.NewCollector(provider, func([]string) string { return "" }, false)
	w.Make("boot")
	w.cfg = patch.Config{
		Dir: w.Path("data/patches"), Installer: &apt.Apt{Config: w.Path("apt.conf"), Judge: provider}, Program: program(w.Path("apt.conf")),
		Look: func(ctx context.Context, refresh bool) (*drydockv1.HostStatus, error) {
			look := collector.Collect
			if refresh {
				look = collector.Refresh
			}
			found, err := look(ctx)
			if err == nil {
				found.Kernel.Running, found.Kernel.RunningVersion, found.Reboot = w.running, "", nil
			}
			return found, err
		},
		Users:      func(context.Context, []string) ([]string, error) { return nil, nil },
		Pods:       func(context.Context) ([]string, error) { return w.pods, nil },
		Containerd: func(context.Context) (string, error) { return "v2", nil },
		Boot:       "boot-1", BootDir: w.Path("boot"), Run: w.Path("run"), Log: slog.New(slog.DiscardHandler),
	}
	w.begin()
	return w
}

// begin starts the host's agent, as after its end.
func (w *world) begin() {
	w.t.Helper()
	var err error
	if w.Host, err = patch.New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
}

// offer publishes packages in place of those that were offered.
func (w *world) offer(debs ...apttest.Deb) {
	w.t.Helper()
	a := w.Good()
	a.Packages = debs
	w.Publish(a)
	if len(w.Sources) == 0 {
		w.Trust("stable")
	}
}

// at fails the test where dpkg has another version.
func (w *world) at(versions map[string]string) {
	w.t.Helper()
	for name, want := range versions {
		if got := w.Installed(name); got != want {
			w.t.Errorf("%s is at %q, and not at %q", name, got, want)
		}
	}
}

// slow is a script that waits, once it has said that it runs, until it is let go.
func (w *world) slow(name string) string {
	return fmt.Sprintf("touch %[1]s\nn=0\nwhile [ -e %[1]s ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done", w.Path(name))
}

func (w *world) awaitFile(name string) {
	w.t.Helper()
	w.Await(name, func() bool { _, err := os.Stat(w.Path(name)); return err == nil })
}

// processes are those of this world whose program has a name.
func (w *world) processes(name string) []int {
	w.t.Helper()
	return w.Processes(func(dir string) bool {
		comm, _ := os.ReadFile(dir + "/comm")
		line, _ := os.ReadFile(dir + "/cmdline")
		return strings.TrimSpace(string(comm)) == name && strings.Contains(string(line), w.Root)
	})
}

// kill ends processes of this world without warning.
func (w *world) kill(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.Kill(name, w.processes(name))
	}
}

// self is the name of the program that works on packages.
func self() string {
	name, err := os.Executable()
	if err != nil {
		panic(err)
	}
	name = filepath.Base(name)
	return name[:min(len(name), 15)]
}
