//go:build root

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/rig"
)

// killService kills a service as kill -9 does, and waits until its init has started it again.
func killService(t *testing.T, host, service string) {
	t.Helper()
	before, err := shared.ServicePID(host, service)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(before, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, service+" started again", func() bool {
		now, err := shared.ServicePID(host, service)
		return err == nil && now != before
	})
	until(t, "an answer", func() bool { return try(t, "pod", "ls").status == 0 })
}

func TestKillingTheAgentOrTheControllerLeavesPodsRunning(t *testing.T) {
	for _, c := range []struct{ host, service string }{{"h1", "agent"}, {lab.ControllerNode, "controller"}} {
		t.Run(c.service, func(t *testing.T) {
			runPod(t, "steady", idle...)
			inside(t, "steady", "echo here >/root/mark")
			before := pod(t, "steady").Containers[0].Pid
			killService(t, c.host, c.service)
			until(t, "h1 ready", hostIs(t, "h1", "ready"))
			seen(t, "steady")
			if now := pod(t, "steady").Containers[0]; now.Pid != before || now.Restarts != 0 {
				t.Errorf("the pod's process is %d with %d restarts, not %d", now.Pid, now.Restarts, before)
			}
			move(t, "steady", "h2")
			if got := inside(t, "steady", "cat /root/mark"); got != "here" {
				t.Errorf("the file holds %q", got)
			}
			do(t, "pod", "stop", "steady", "--grace", "1s")
			do(t, "pod", "start", "steady")
			do(t, "pod", "rm", "--force", "steady")
		})
	}
}

func crash(t *testing.T, host string) {
	t.Helper()
	if err := shared.KillHost(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if _, err := shared.InitPID(host); err == nil {
			return
		}
		if err := shared.StartHost(ctx, host); err != nil {
			t.Error(err)
		}
		if err := rig.Ready(ctx, shared.Lab, shared.Hosts()); err != nil {
			t.Error(err)
		}
	})
	until(t, host+" unreachable", hostIs(t, host, "unreachable"))
}

func TestAPodOfACrashedHostWaitsForTheOperatorsWord(t *testing.T) {
	runPod(t, "orphan", idle...)
	boot := ""
	for _, h := range look(t).Hosts {
		if h.Name == "h1" {
			boot = h.Boot
		}
	}
	crash(t, "h1")
	if got := pod(t, "orphan"); got.Host != "h1" || got.Phase == drydockv1.PodPhase_POD_PHASE_RUNNING {
		t.Errorf("the pod is %s on %s before anyone vouched for h1's death", got.Phase, got.Host)
	}
	refuses(t, 3, []string{"boot"}, "host", "confirm-dead", "h1", "--boot-id", "6c1f0a52-8f8e-4f0e-9d52-3f2f8f1f9a11")
	do(t, "host", "confirm-dead", "h1", "--boot-id", boot)
	until(t, "the pod elsewhere", func() bool {
		p := pod(t, "orphan")
		return p.Host != "h1" && p.Phase == drydockv1.PodPhase_POD_PHASE_RUNNING
	})
}

func TestAPodRestartsInPlaceAfterANewBoot(t *testing.T) {
	runPod(t, "orphan", idle...)
	crash(t, "h1")
	if err := shared.StartHost(t.Context(), "h1"); err != nil {
		t.Fatal(err)
	}
	until(t, "h1 ready", hostIs(t, "h1", "ready"))
	until(t, "the pod runs again", func() bool {
		return pod(t, "orphan").Phase == drydockv1.PodPhase_POD_PHASE_RUNNING && try(t, "pod", "exec", "orphan", "--", "/bin/true").status == 0
	})
}

func TestARestoredStoreBringsTheSamePodsBack(t *testing.T) {
	runPod(t, "steady", idle...)
	before := look(t)
	backup := filepath.Join(t.TempDir(), "backup")
	do(t, "store", "backup", backup)
	refuses(t, 1, []string{"store restore"}, "store", "restore", backup, "--data-dir", filepath.Join(shared.DataDir(lab.ControllerNode), "controller"))
	if err := shared.KillHost(t.Context(), lab.ControllerNode); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(shared.DataDir(lab.ControllerNode), "controller")
	if err := os.Rename(dir, dir+"-lost"); err != nil {
		t.Fatal(err)
	}
	do(t, "store", "restore", backup, "--data-dir", dir)
	if err := shared.StartHost(t.Context(), lab.ControllerNode); err != nil {
		t.Fatal(err)
	}
	until(t, "an answer", func() bool { return try(t, "pod", "ls").status == 0 })
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := rig.Ready(ctx, shared.Lab, shared.Hosts()); err != nil {
		t.Fatal(err)
	}
	seen(t, "steady")
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("not as before (-before +after):\n%s", diff)
	}
	move(t, "steady", "h2")
}

func TestTwoLabsLiveSideBySide(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	before := look(t)
	other, err := rig.Up(ctx, lab.Options{Name: labName + "-other", Hosts: 1, Binary: shared.binary})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := other.Down(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := other.ImportImages(ctx, "h1", os.Stderr, "redis"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Run(ctx, &drydockv1.PodSpec{Name: "same", Containers: []*drydockv1.Container{{Name: "main", Image: "redis"}}}, "h1"); err != nil {
		t.Fatal(err)
	}
	runPod(t, "same", idle...)
	move(t, "same", "h2")
	discard(t, "same")
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("the other lab changed this one (-before +after):\n%s", diff)
	}
}
