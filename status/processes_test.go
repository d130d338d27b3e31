package status

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	drydockv1 "drydock/api/drydock/v1"
)

func TestOnlyCodeOfFilesThatWereReplacedCounts(t *testing.T) {
	for line, want := range map[string]string{
		"7f1-7f2 r-xp 00001000 08:01 8123 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)": "/usr/lib/x86_64-linux-gnu/libssl.so.3",
		"5561-5562 r-xp 00001000 00:2b 9 /usr/sbin/sshd (deleted)":                         "/usr/sbin/sshd",
		"7f1-7f2 r-xp 00001000 08:01 8123 /opt/with a blank/lib.so (deleted)":              "/opt/with a blank/lib.so",
		"7f1-7f2 r-xp 00001000 08:01 8123 /usr/lib/x86_64-linux-gnu/libssl.so.3":           "",
		"7f1-7f2 r--p 00001000 08:01 8123 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)": "",
		"7f1-7f2 rw-p 00001000 08:01 8123 /usr/lib/locale/locale-archive (deleted)":        "",
		"7f1-7f2 rwxp 00000000 00:01 1029 /memfd:doublemapper (deleted)":                   "",
		"7f1-7f2 rwxs 00000000 00:01 1029 /dev/zero (deleted)":                             "",
		"7f1-7f2 rwxs 00000000 00:01 1029 /SYSV00000000 (deleted)":                         "",
		"7f1-7f2 rwxs 00000000 00:19 1029 /dev/shm/pulse (deleted)":                        "",
		"7f1-7f2 rw-s 00000000 00:10 1029 /[aio] (deleted)":                                "",
		"7f1-7f2 rwxp 00000000 00:0f 1029 /anon_hugepage (deleted)":                        "",
		"7f1-7f2 r-xp 00000000 00:24 1029 /tmp/ffiJk2 (deleted)":                           "",
		"7f1-7f2 r-xp 00000000 00:24 1029 /run/user/1000/jit (deleted)":                    "",
		"7ffd-7ffe r-xp 00000000 00:00 0 [vdso]":                                           "",
		"7ffd-7ffe rwxp 00000000 00:00 0":                                                  "",
		"":                                                                                 "",
	} {
		if got := replacedCode(line); got != want {
			t.Errorf("%s: %q, not %q", line, got, want)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAProcessIsNamedWithItsUnitOrItsPod(t *testing.T) {
	const replaced = "7f1-7f2 r-xp 00001000 08:01 8123 /usr/lib/libc.so.6 (deleted)\n"
	proc := t.TempDir()
	for pid, text := range map[string][2]string{
		"10": {replaced + replaced, "0::/system.slice/ssh.service\n"},
		"11": {replaced, "4:memory:/drydock/pods/redis/main\n0::/\n"},
		"12": {replaced, "0::/outer/lab/h1/pods/web/main\n"},
		"13": {"7f1-7f2 r-xp 00001000 08:01 8123 /usr/lib/libc.so.6\n", "0::/\n"},
	} {
		writeFile(t, filepath.Join(proc, pid, "maps"), text[0])
		writeFile(t, filepath.Join(proc, pid, "cgroup"), text[1])
		writeFile(t, filepath.Join(proc, pid, "comm"), "c"+pid+"\n")
	}
	writeFile(t, filepath.Join(proc, "14", "comm"), "ended while it was looked at\n")
	writeFile(t, filepath.Join(proc, "uptime"), "1 1\n")
	for parent, pods := range map[string][2]string{"/drydock": {"redis", ""}, "/lab/h1": {"", "web"}} {
		got, err := staleProcesses(context.Background(), proc, PodsBelow(parent))
		if err != nil {
			t.Fatal(err)
		}
		files := []string{"/usr/lib/libc.so.6"}
		want := []*drydockv1.StaleProcess{
			{Pid: 10, Command: "c10", Unit: "ssh.service", Files: files}, {Pid: 11, Command: "c11", Pod: pods[0], Files: files},
			{Pid: 12, Command: "c12", Pod: pods[1], Files: files},
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestWhatCannotBeReadIsAnErrorBesideWhatCould(t *testing.T) {
	proc := t.TempDir()
	writeFile(t, filepath.Join(proc, "10", "maps"), "7f1-7f2 r-xp 00001000 08:01 8123 /usr/lib/libc.so.6 (deleted)\n")
	if err := os.MkdirAll(filepath.Join(proc, "11", "maps"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := staleProcesses(context.Background(), proc, PodsBelow("/drydock"))
	if len(got) != 1 || err == nil || !strings.Contains(err.Error(), "process 11") {
		t.Error(got, err)
	}
}
