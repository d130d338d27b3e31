//go:build root

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"drydock/lab"
)

func TestLintianFindsNothingInThePackage(t *testing.T) {
	deb := build(t, time.Now())
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", deb).CombinedOutput()
	if err != nil {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

func TestThePackageIsInstalledUpgradedRemovedAndPurged(t *testing.T) {
	root := newRoot(t)
	first, second := build(t, time.Now().Add(-time.Hour)), build(t, time.Now())
	before := tree(t, root)

	inRoot(t, root, "dpkg", "--install", put(t, root, first))
	for _, unit := range []string{"drydock-agent", "drydock-controller"} {
		if out := tryRoot(root, "systemctl", "is-enabled", unit); strings.Contains(out, "enabled") {
			t.Errorf("%s is enabled by installing the package: %s", unit, out)
		}
	}
	for _, file := range []string{"/etc/drydock/agent.yaml", "/etc/drydock/controller.yaml"} {
		inRoot(t, root, "drydock", "config", "check", file)
	}
	config := filepath.Join(root, "etc/drydock/agent.yaml")
	mine := []byte(strings.ReplaceAll(read(t, config), "name: h1", "name: h7"))
	if err := os.WriteFile(config, mine, 0o644); err != nil {
		t.Fatal(err)
	}

	inRoot(t, root, "dpkg", "--install", put(t, root, second))
	if diff := cmp.Diff(string(mine), read(t, config)); diff != "" {
		t.Errorf("the upgrade changed the configuration:\n%s", diff)
	}
	write(t, filepath.Join(root, "var/lib/drydock/agent/fence.json"))
	write(t, filepath.Join(root, "etc/drydock/join-token"))

	inRoot(t, root, "dpkg", "--remove", "drydock")
	for path, want := range map[string]bool{
		"usr/bin/drydock": false, "etc/drydock/agent.yaml": true, "var/lib/drydock/agent/fence.json": true,
	} {
		if _, err := os.Stat(filepath.Join(root, path)); (err == nil) != want {
			t.Errorf("after the removal of the package %s is there: %t", path, !want)
		}
	}

	inRoot(t, root, "dpkg", "--purge", "drydock")
	if diff := cmp.Diff(before, tree(t, root)); diff != "" {
		t.Errorf("the purged package left, or took:\n%s", diff)
	}
}

func TestAPackageIsNotRemovedFromAHostWithPods(t *testing.T) {
	group := "sys/fs/cgroup/drydock/pod/cache"
	root := newRoot(t)
	inRoot(t, root, "dpkg", "--install", put(t, root, build(t, time.Now())))
	write(t, filepath.Join(root, group, "cgroup.procs")) // not empty, as a running pod's
	out, err := command(root, "dpkg", "--remove", "drydock").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "drydock host drain") {
		t.Errorf("removed, or without the reason: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(root, group, "cgroup.procs"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	inRoot(t, root, "dpkg", "--remove", "drydock")
}

func TestMain(m *testing.M) { os.Exit(withProgram(m)) }

// program is what the tests package; TestMain builds it.
var program string

func withProgram(m *testing.M) int {
	dir, err := os.MkdirTemp("", "drydock-packaging-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "drydock")
		cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "../cmd/drydock")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the program to package:", err)
		return 1
	}
	return m.Run()
}

// build makes a package of a program that was last changed at the given time.
func build(t *testing.T, changed time.Time) string {
	t.Helper()
	if err := os.Chtimes(program, changed, changed); err != nil {
		t.Fatal(err)
	}
	deb, err := run(program, program, "amd64", "..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return deb
}

// newRoot is the root file system of a lab's host, to be written to and thrown away.
func newRoot(t *testing.T) string {
	t.Helper()
	lower, err := lab.HostRoot(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := "lowerdir=" + lower + ",upperdir=" + filepath.Join(dir, "upper") + ",workdir=" + filepath.Join(dir, "work")
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Fatalf("mount a root for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Errorf("unmount the test's root: %v", err)
		}
	})
	return root
}

func put(t *testing.T, root, deb string) string {
	t.Helper()
	to := filepath.Join(root, "tmp", filepath.Base(deb))
	data, err := os.ReadFile(deb)
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(to, root)
}

func command(root string, argv ...string) *exec.Cmd {
	cmd := exec.Command("chroot", append([]string{root}, argv...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	return cmd
}

func inRoot(t *testing.T, root string, argv ...string) {
	t.Helper()
	if out, err := command(root, argv...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

func tryRoot(root string, argv ...string) string {
	out, _ := command(root, argv...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

// tree names every file of the root but dpkg's own records, and what was put there for installing.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		if err == nil && !strings.HasPrefix(name, "/var/lib/dpkg/") && !strings.HasPrefix(name, "/tmp/") && !strings.HasPrefix(name, "/var/log/") {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("4321\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}
