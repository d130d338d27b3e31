//go:build root && linux && amd64

package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	drydockv1 "drydock/api/drydock/v1"
)

// report is what testdata/probe prints.
type report struct {
	PID      int
	Hostname string
	Env      []string
	UID, GID int
	Groups   []int
	Dev      []string
	Firmware []string
	Calls    map[string]string
	Status   map[string]string
	Mounts   []string
	Hosts    string
	Volume   string
}

func TestAContainerThatRuncRunsIsWalledInAsDocumented(t *testing.T) {
	got := run(t, nil)
	if got.PID != 1 || got.Hostname != "shop" || got.UID != 0 {
		t.Errorf("pid %d, hostname %s, uid %d", got.PID, got.Hostname, got.UID)
	}
	status := map[string]string{
		// CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, NET_BIND_SERVICE 10
		"CapBnd": "00000000000004fb", "CapEff": "00000000000004fb", "CapPrm": "00000000000004fb",
		"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	}
	for key, want := range status {
		if got.Status[key] != want {
			t.Errorf("%s is %s, want %s", key, got.Status[key], want)
		}
	}
	if diff := cmp.Diff(probeCalls(), got.Calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	dev := []string{
		"fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
	}
	if diff := cmp.Diff(dev, got.Dev); diff != "" {
		t.Errorf("/dev (-want +got):\n%s", diff)
	}
	if len(got.Firmware) != 0 {
		t.Errorf("/sys/firmware shows %v", got.Firmware)
	}
	if got.Hosts != "127.0.0.1 localhost\n" || got.Volume != "kept" {
		t.Errorf("hosts %q, volume %q", got.Hosts, got.Volume)
	}
	var tmpfs []string
	for _, m := range got.Mounts {
		// The device that hides a file shows as its file system.
		if path, ok := strings.CutPrefix(m, "tmpfs "); ok && !strings.HasPrefix(path, "/proc/") {
			tmpfs = append(tmpfs, path)
		}
	}
	if diff := cmp.Diff([]string{"/dev", "/dev/shm"}, tmpfs); diff != "" {
		t.Errorf("tmpfs mounts (-want +got):\n%s", diff)
	}
}

func TestAContainerWithAUserAndNoCapabilitiesRunsAsThatUser(t *testing.T) {
	uid := int64(999)
	got := run(t, func(p *drydockv1.PodSpec) {
		p.Containers[0].Security = &drydockv1.Security{
			RunAsUser: &uid, SupplementaryGroups: []int64{4242}, DropCapabilities: []string{"ALL"}, ReadOnlyRoot: true,
		}
	})
	if got.UID != 999 || got.GID != 998 {
		t.Errorf("uid %d gid %d, want 999 and 998", got.UID, got.GID)
	}
	if diff := cmp.Diff([]int{998, 1000, 4242}, got.Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if got.Status["CapBnd"] != "0000000000000000" {
		t.Errorf("bounding set %s", got.Status["CapBnd"])
	}
	if got.Calls["mknod fifo"] != "EROFS" {
		t.Errorf("the root is not read-only: mkfifo said %s", got.Calls["mknod fifo"])
	}
}

func probeCalls() map[string]string {
	want := map[string]string{
		"chown": "ok", "setgroups": "ok", "setgid": "ok", "setuid": "ok",
		"mknod fifo": "ok", "unshare files": "ok", "socket inet": "ok", "socket netlink": "ok", "write /dev/null": "ok",
		"write /proc/sys/kernel/core_pattern":               "EROFS",
		"write /sys/kernel/mm/transparent_hugepage/enabled": "EROFS", "write /etc/hosts": "EROFS",
	}
	for _, name := range []string{
		"io_uring_setup", "io_uring_enter", "clone3", "userfaultfd", "ptrace", "mq_open", "pkey_alloc", "landlock", "memfd_secret",
	} {
		want[name] = "ENOSYS"
	}
	for _, name := range []string{
		"reboot", "mount", "umount2", "mknod device", "mknodat device", "setns", "unshare net", "unshare user",
		"clone newuser", "pivot_root", "swapon", "kexec_load", "init_module", "settimeofday", "clock_settime", "adjtimex",
		"bpf", "perf_event_open", "keyctl", "iopl", "sethostname", "chroot", "socket vsock", "socket alg", "socket packet",
	} {
		want[name] = "EPERM"
	}
	return want
}

// run runs the probe as a container of a pod and returns what it saw.
func run(t *testing.T, change func(*drydockv1.PodSpec)) report {
	t.Helper()
	dir := bundle(t)
	in := inputFor(t, dir)
	in.Image = v1.ImageConfig{Entrypoint: []string{"/probe"}, Env: []string{"LANG=C"}}
	if change != nil {
		change(in.Pod)
	}
	s, err := Build(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	id := "ddspec-" + filepath.Base(dir)
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("runc", "--root", filepath.Join(dir, "state"), "run", "--bundle", dir, id)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: runc: %v: %s%s", cmd.Args, err, stdout.String(), stderr.String())
	}
	var got report
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	return got
}

// bundle makes a directory with a root file system that holds the probe, and a network namespace of the same name.
func bundle(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test runs containers; run it as root")
	}
	dir, err := os.MkdirTemp("", "ddspec-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sh(t, "rm", "-r", "--one-file-system", dir) })
	for _, sub := range []string{"rootfs/tmp", "rootfs/etc", "empty", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"rootfs/etc/passwd": "root:x:0:0::/root:/bin/sh\nredis:x:999:998::/:/bin/sh\n",
		"rootfs/etc/group":  "root:x:0:\nredis:x:998:\nextra:x:1000:redis\n",
		"hosts":             "127.0.0.1 localhost\n", "hostname": "shop\n", "resolv.conf": "", "data/file": "kept",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "rootfs/probe"), "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { removeCgroups(t) })
	sh(t, "ip", "netns", "add", filepath.Base(dir))
	t.Cleanup(func() { sh(t, "ip", "netns", "del", filepath.Base(dir)) })
	return dir
}

// removeCgroups removes the parent that runc leaves behind.
func removeCgroups(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob("/sys/fs/cgroup/*/ddspec-test")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(left, "/sys/fs/cgroup/ddspec-test") {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

func sh(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%v: %v: %s", args, err, out)
	}
}

// inputFor describes the pod shop in a bundle.
func inputFor(t *testing.T, dir string) Input {
	t.Helper()
	return Input{
		Pod: &drydockv1.PodSpec{
			Name: "shop",
			Containers: []*drydockv1.Container{{
				Name: "main", Image: "probe:1", Mounts: []*drydockv1.VolumeMount{{Volume: "data", Path: "/data"}},
				Resources: &drydockv1.Resources{CpuLimitMillis: 500, CpuRequestMillis: 100, MemoryLimitBytes: 64 << 20},
			}},
			Volumes: []*drydockv1.Volume{{Name: "data", Kind: &drydockv1.Volume_Local_{}}},
		},
		RootFS: filepath.Join(dir, "rootfs"), Epoch: 1, NetNS: "/run/netns/" + filepath.Base(dir),
		Cgroup: "/ddspec-test/" + filepath.Base(dir), Volumes: map[string]string{"data": filepath.Join(dir, "data")},
		Hosts: filepath.Join(dir, "hosts"), Hostname: filepath.Join(dir, "hostname"),
		ResolvConf: filepath.Join(dir, "resolv.conf"), Empty: filepath.Join(dir, "empty"),
		CRIUConfig: filepath.Join(dir, "criu.conf"),
	}
}
