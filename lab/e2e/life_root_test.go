//go:build root

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
)

func writeManifest(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func move(t *testing.T, name, to string) {
	t.Helper()
	do(t, "migrate", name, "--to", to)
	if got := pod(t, name); got.Host != to || got.Phase != drydockv1.PodPhase_POD_PHASE_RUNNING {
		t.Fatalf("pod %s is %s on %s after the move to %s", name, got.Phase, got.Host, to)
	}
	seen(t, name)
}

func TestContainersOfAPodTalkOverLocalhostAcrossAMove(t *testing.T) {
	t.Cleanup(func() { discard(t, "pair") })
	do(t, "pod", "run", "--host", "h1", "-f", writeManifest(t, `{apiVersion: v1, kind: Pod, metadata: {name: pair}, spec: {containers: [
  {name: redis, image: redis}, {name: shell, image: redis, command: [/bin/sh, -c, "trap 'exit 0' TERM; while :; do sleep 1; done"]}]}}`))
	ask := func(line string) string {
		return strings.TrimSpace(do(t, "pod", "exec", "-c", "shell", "pair", "--", "/bin/bash", "-c",
			`exec 3<>/dev/tcp/127.0.0.1/6379; printf '`+line+`\r\n' >&3; read -r -u 3 answer; echo "$answer"`))
	}
	until(t, "Redis answers", func() bool {
		return try(t, "pod", "exec", "-c", "shell", "pair", "--", "/bin/bash", "-c", "echo >/dev/tcp/127.0.0.1/6379").status == 0
	})
	if got := ask("INCR moves"); got != ":1" {
		t.Errorf("before the move: %q", got)
	}
	move(t, "pair", "h2")
	if got := ask("INCR moves"); got != ":2" {
		t.Errorf("after the move: %q", got)
	}
}

func TestFilesAndLogsComeAlong(t *testing.T) {
	runPod(t, "diary", "--image", "workbench", "--user", "0", "--host", "h1", "-v", "data:/data", "--command", "--",
		"/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done")
	inside(t, "diary", "echo kept >/data/file; chown 33:44 /data/file; chmod 640 /data/file; ln /data/file /data/link; echo layer >/root/written; rm /etc/debian_version")
	const list = "stat -c '%n %u:%g %a %s %h %Y' /data/file /data/link /root/written; cat /data/file /root/written; ls /etc/debian_version 2>/dev/null || echo gone"
	before := inside(t, "diary", list)
	move(t, "diary", "h2")
	if diff := cmp.Diff(before, inside(t, "diary", list)); diff != "" {
		t.Errorf("the files are others (-before +after):\n%s", diff)
	}
	lines := len(strings.Split(do(t, "pod", "logs", "diary"), "\n"))
	until(t, "more lines", func() bool { return len(strings.Split(do(t, "pod", "logs", "diary"), "\n")) > lines+5 })
	for i, line := range strings.Split(strings.TrimSpace(do(t, "pod", "logs", "diary")), "\n") {
		if want := fmt.Sprint("line ", i+1); line != want {
			t.Fatalf("line %d of the log is %q", i+1, line)
		}
	}
	do(t, "pod", "stop", "diary", "--grace", "0s")
	do(t, "pod", "start", "diary")
	until(t, "the pod runs", func() bool { return try(t, "pod", "exec", "diary", "--", "/bin/true").status == 0 })
	if diff := cmp.Diff(before, inside(t, "diary", list)); diff != "" {
		t.Errorf("stop and start changed the files (-before +after):\n%s", diff)
	}
}

func TestExecEndsAsTheCommandDid(t *testing.T) {
	runPod(t, "steady", idle...)
	for _, status := range []int{0, 1, 7, 255} {
		got := try(t, "pod", "exec", "steady", "--", "/bin/sh", "-c", fmt.Sprintf("echo out; echo err >&2; exit %d", status))
		if want := (answer{"out\n", "err\n", status}); got != want {
			t.Errorf("%+v, not %+v", got, want)
		}
	}
}

func TestExecPassesInputOnToItsEnd(t *testing.T) {
	runPod(t, "steady", idle...)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, shared.binary, "pod", "exec", "-i", "steady", "--", "/bin/cat")
	cmd.Env = append(os.Environ(), shared.Env()...)
	cmd.Stdin = strings.NewReader("first\nlast")
	if got, want := finish(t, cmd), (answer{"first\nlast", "", 0}); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}

func TestProbesAnswerBeforeAndAfterAMove(t *testing.T) {
	for name, args := range map[string][]string{
		"exec": {"--health-exec", "/bin/true"}, "tcp": {"--health-tcp", "6379"},
	} {
		t.Run(name, func(t *testing.T) { probed(t, append([]string{"--image", "redis", "--host", "h1"}, args...)) })
	}
	t.Run("http", func(t *testing.T) {
		probed(t, []string{"--image", "nginx", "--host", "h1", "--health-http", "80/data.bin"})
	})
}

func probed(t *testing.T, args []string) {
	runPod(t, "probed", args...)
	healthy := func() bool {
		c := pod(t, "probed").Containers
		return len(c) == 1 && c[0].Healthy != nil && *c[0].Healthy
	}
	until(t, "a healthy pod", healthy)
	before := pod(t, "probed").Containers[0].Started
	if age := time.Since(before.AsTime()); before == nil || age < 0 || age > time.Hour {
		t.Errorf("it was started at %v", before)
	}
	move(t, "probed", "h2")
	until(t, "a healthy pod after the move", healthy)
	after := pod(t, "probed").Containers[0]
	if after.Restarts != 0 || !after.Started.AsTime().Equal(before.AsTime()) {
		t.Errorf("restarted %d times, started at %v and then %v", after.Restarts, before, after.Started)
	}
}

func TestLimitsHoldBeforeAndAfterAMove(t *testing.T) {
	runPod(t, "bounded", append([]string{"--memory", "96MiB", "--cpus", "0.5"}, idle...)...)
	for _, host := range []string{"h1", "h2"} {
		if host != "h1" {
			move(t, "bounded", host)
		}
		pid := pod(t, "bounded").Containers[0].Pid
		root, err := shared.Root(host)
		if err != nil {
			t.Fatal(err)
		}
		groups, err := os.ReadFile(filepath.Join(root, "proc", strconv.Itoa(int(pid)), "cgroup"))
		if err != nil {
			t.Fatal(err)
		}
		if got := limitOf(t, string(groups), "memory", "memory.limit_in_bytes", "memory.max"); got != strconv.Itoa(96<<20) {
			t.Errorf("%s: memory limit %s", host, got)
		}
		if got := limitOf(t, string(groups), "cpu", "cpu.cfs_quota_us", "cpu.max"); got != "50000" && got != "50000 100000" {
			t.Errorf("%s: CPU quota %s", host, got)
		}
	}
}

// limitOf reads a limit of a process from /proc/PID/cgroup's text, in either version's tree.
func limitOf(t *testing.T, groups, controller, v1, v2 string) string {
	t.Helper()
	unified := ""
	for line := range strings.Lines(groups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if parts[1] == "" {
			unified = filepath.Join("/sys/fs/cgroup", parts[2], v2)
		}
		for _, c := range strings.Split(parts[1], ",") {
			if c == controller {
				return content(t, filepath.Join("/sys/fs/cgroup", controller, parts[2], v1))
			}
		}
	}
	return content(t, unified)
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestTheRestartPolicyIsObeyed(t *testing.T) {
	for policy, restarts := range map[string]bool{"always": true, "never": false} {
		t.Run(policy, func(t *testing.T) {
			runPod(t, "mortal", append([]string{"--restart", policy}, idle...)...)
			inside(t, "mortal", "kill -TERM 1")
			until(t, "the pod's end", func() bool {
				p := pod(t, "mortal")
				if restarts {
					return len(p.Containers) == 1 && p.Containers[0].Restarts == 1 && p.Containers[0].State == "running"
				}
				return p.Phase != drydockv1.PodPhase_POD_PHASE_RUNNING && p.Containers[0].Restarts == 0
			})
		})
	}
}

func TestADryRunEstimatesAndChangesNothing(t *testing.T) {
	runPod(t, "steady", idle...)
	before := look(t)
	out := do(t, "migrate", "steady", "--to", "h2", "--dry-run")
	for _, words := range []string{"dry run", "Estimate", "Memory:", "Files:", "Freeze:", "Time:"} {
		if !strings.Contains(out, words) {
			t.Errorf("does not say %q:\n%s", words, out)
		}
	}
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("changed something (-before +after):\n%s", diff)
	}
}

func TestADrainMovesEveryPodAndKeepsOthersAway(t *testing.T) {
	names := []string{"first", "second", "third"}
	for _, name := range names {
		runPod(t, name, idle...)
	}
	do(t, "host", "drain", "h1")
	for _, name := range names {
		if p := pod(t, name); p.Host == "h1" || p.Phase != drydockv1.PodPhase_POD_PHASE_RUNNING {
			t.Errorf("pod %s is %s on %s", name, p.Phase, p.Host)
		}
	}
	if !hostIs(t, "h1", "cordoned")() {
		t.Error("h1 is not cordoned")
	}
	refuses(t, 3, []string{"h1 is cordoned"}, "migrate", "first", "--to", "h1")
	do(t, "host", "resume", "h1")
	move(t, "first", "h1")
}
