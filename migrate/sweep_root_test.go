//go:build root

package migrate

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/pods"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// adoptIn names, in the environment of a run of this test program, the directory in which it adopts a pod and is killed.
const adoptIn = "MIGRATE_ADOPT_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(adoptIn); dir != "" {
		os.Exit(adoptAndCrash(dir))
	}
	os.Exit(m.Run())
}

// engineIn is one whose pods lie in the working directory.
func engineIn(dir string, at func(context.Context, string)) *Engine {
	return New(Config{
		Here: owner.Place{Host: "h2", BootID: "b2"}, DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"),
		Pods: new(pods.Runtime), Store: away{}, At: at, Log: slog.New(slog.DiscardHandler),
	})
}

// adoptAndCrash is an agent that is killed between the adoption of a pod and the removal of what came with it.
func adoptAndCrash(dir string) int {
	e := engineIn(dir, func(_ context.Context, point string) {
		if point == "destination-after-adopt" {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		}
	})
	rec := &pods.Record{Spec: &drydockv1.PodSpec{Name: "db"}, Role: pods.Incoming, Migration: "over"}
	j := owner.Journal{Pod: "db", Side: owner.Destination, Stage: owner.PluggedIn, BootID: "b2", Migration: "over"}
	live := owner.Journal{Pod: "web", Side: owner.Destination, Stage: owner.Prepared, BootID: "b2", Migration: "live"}
	if e.Pods.Save(rec) != nil || e.journals.save(j) != nil || e.journals.save(live) != nil {
		return 1
	}
	for _, migration := range []string{"over", "live"} {
		made, err := e.makeDir(migration)
		if err != nil || os.WriteFile(filepath.Join(made, "pages-1.img"), make([]byte, 1<<20), 0o600) != nil {
			return 2
		}
	}
	_ = e.adopt(context.Background(), j, owner.Record{Epoch: 2})
	return 3
}

func TestAnAgentThatWasKilledAfterItAdoptedAPodLeavesNoMemoryBehind(t *testing.T) {
	dir := t.TempDir()
	crashed := exec.Command(os.Args[0])
	crashed.Dir, crashed.Env = dir, append(os.Environ(), adoptIn+"="+dir)
	err := crashed.Run()
	e := engineIn(dir, nil)
	t.Cleanup(func() {
		for _, name := range []string{"over", "live", "other"} {
			_ = unix.Unmount(e.dir(name), unix.MNT_DETACH)
		}
	})
	if status, known := crashed.ProcessState.Sys().(interface{ Signal() unix.Signal }); !known || status.Signal() != unix.SIGKILL {
		t.Fatalf("the agent was not killed: %v", err)
	}
	if !mounted(t, e.dir("over")) || !mounted(t, e.dir("live")) {
		t.Fatal("the crash left nothing")
	}
	// Somebody else's file system is none of ours.
	if err := os.Mkdir(e.dir("other"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("another", e.dir("other"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := e.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if mounted(t, e.dir("over")) || exists(e.dir("over")) {
		t.Error("the memory of a migration that is over is still held")
	}
	if !mounted(t, e.dir("live")) || !exists(filepath.Join(e.dir("live"), "pages-1.img")) {
		t.Error("a migration that goes on has lost its images")
	}
	if !mounted(t, e.dir("other")) {
		t.Error("what is not Drydock's was unmounted")
	}
	if rec, err := e.Pods.Record("db"); err != nil || rec.Role != pods.Owned {
		t.Errorf("the adopted pod: %+v, %v", rec, err)
	}
}

func mounted(t *testing.T, dir string) bool {
	t.Helper()
	is, err := mountinfo.Mounted(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return is
}
