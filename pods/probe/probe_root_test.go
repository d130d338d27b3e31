//go:build root

package probe

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/lab"
)

// TestMain is also what a lab's hosts run.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "lab" {
		if err := lab.HostMain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// dir is where a host's probe has its things.
const dir = "/run/probe"

func TestAHostThatCanDumpAndRestoreIsToldFromOneThatCannot(t *testing.T) {
	t.Setenv("DRYDOCK_CONTEXTS", filepath.Join(t.TempDir(), "contexts.yaml"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var progress bytes.Buffer
	const name = "patch-probe"
	l, err := lab.Up(ctx, lab.Options{Name: name, Hosts: 1, HostServices: []lab.Service{}, ControllerServices: []lab.Service{}, Progress: &progress})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	defer func() {
		if err := lab.Down(context.Background(), name); err != nil {
			t.Error(err)
		}
	}()
	program := shared(t, l)
	on := func(argv ...string) (string, error) {
		out, err := l.Exec(ctx, "h1", argv...).CombinedOutput()
		return string(out), err
	}
	began := time.Now()
	if out, err := on(program, "run", dir); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Log("it took", time.Since(began))
	clean := func() {
		t.Helper()
		for _, look := range []string{"test ! -e " + dir, "! grep -q " + dir + " /proc/self/mountinfo", "! pgrep -xf '/program content'", "! find /sys/fs/cgroup -name probe | grep ."} {
			if out, err := on("sh", "-c", look); err != nil {
				t.Errorf("%s: %s", look, out)
			}
		}
	}
	clean()
	// A CRIU that succeeds at everything, and does nothing, is not believed.
	criu := "#!/bin/sh\nexit 0\n"
	if out, err := on("sh", "-c", "p=$(command -v criu); mv $p $p.real; printf '%s' '"+criu+"' >$p; chmod 755 $p"); err != nil {
		t.Fatal(err, out)
	}
	if out, err := on(program, "run", dir); err == nil {
		t.Errorf("a host without a CRIU that works passed: %s", out)
	}
	clean()
	if out, err := on("sh", "-c", "p=$(command -v criu); mv $p.real $p"); err != nil {
		t.Fatal(err, out)
	}
	// What a probe that was killed half-way left is in nobody's way.
	killed := 0
	for _, after := range []string{"0.05", "0.15", "0.25", "0.35", "0.45"} {
		if _, err := on("timeout", "-s", "KILL", after, program, "run", dir); err != nil {
			killed++
		}
		if out, err := on(program, "run", dir); err != nil {
			t.Errorf("after one that was killed %s s after its start: %v: %s", after, err, out)
		}
	}
	if killed == 0 {
		t.Error("every one was over before it was killed")
	}
	clean()
	// So is what a runc that was killed in its restore left mounted: the root in its own directory, and a bind mount in the root.
	mounts := "cd " + dir + " && touch rootfs/program && mount --bind " + program + " rootfs/program && mount --rbind rootfs state/drydock-probe/criu-root"
	if out, err := on("sh", "-c", "mkdir -p "+dir+"/rootfs "+dir+"/state/drydock-probe/criu-root && "+mounts); err != nil {
		t.Fatal(err, out)
	}
	if out, err := on(program, "run", dir); err != nil {
		t.Errorf("after a restore that was killed: %v: %s", err, out)
	}
	clean()
	// One that comes back with another word than it should is not believed either.
	if out, err := on("sh", "-c", "p=$(command -v runc); mv $p $p.real; printf '#!/bin/sh\\ncase \" $* \" in *\" restore \"*) echo lost >"+dir+
		"/rootfs/answer; exit 0;; esac\\nexec %s.real \"$@\"\\n' $p >$p; chmod 755 $p"); err != nil {
		t.Fatal(err, out)
	}
	if out, err := on(program, "run", dir); err == nil || !strings.Contains(out, "find it as it was: lost") {
		t.Errorf("%v: %s", err, out)
	}
	clean()
}

// shared builds the program that probes, and puts it where hosts find it. It is static: nothing is beside it in the container.
func shared(t *testing.T, l *lab.Lab) string {
	t.Helper()
	build := exec.Command("go", "build", "-o", filepath.Join(l.SharedDir(), "probe"), "./testdata/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return "/srv/shared/probe"
}
