//go:build vm

package real

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
)

// restLimit is for a rollout that waits for a host as long as a boot may take, and for one more boot, on a busy machine.
const restLimit = 30 * time.Minute

// A kernel that does not come up costs nobody a pod, however it fails. The hosts are brought up once.
func TestAHostFallsBackFromABrokenKernel(t *testing.T) {
	s := newScene(t, lab.Updates{Mirror: true})
	a := s.newArchive(t)
	for _, c := range []struct {
		name   string
		kernel brokenKernel
		fenced bool
		says   string
	}{
		{"a kernel that panics", brokenKernel{how: "panics", initrd: ramdisk(executable(ends))}, false, "fell back to"},
		{"a kernel that hangs once the watchdog runs", brokenKernel{how: "freezes", hangs: true}, false, "fell back to"},
		{"a kernel that hangs before the watchdog runs", brokenKernel{how: "waits", initrd: ramdisk(executable(waits))}, true, "it was switched off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.guest(t, "h1")
			s.offer(t, a, "h1", c.kernel)
			if out, err := s.operate(t.Context(), "status", "h1", "--refresh"); err != nil || !strings.Contains(out, c.kernel.release()) {
				t.Fatalf("h1 does not see the kernel: %v\n%s", err, out)
			}
			rollout := s.rollOut(t)
			t.Logf("the rollout is %s: %s: %v", rollout.State, rollout.Reason, rollout.Problems)
			if rollout.State != drydockv1.RolloutState_ROLLOUT_STATE_STOPPED || !slices.ContainsFunc(rollout.Problems, func(r *drydockv1.Refusal) bool {
				return strings.Contains(r.Reason, c.says) && strings.Contains(r.Reason, "host h1") && r.Remedy != ""
			}) {
				t.Errorf("it does not say %q", c.says)
			}
			h1 := rollout.Hosts[slices.IndexFunc(rollout.Hosts, func(h *drydockv1.RolloutHost) bool { return h.Host == "h1" })]
			if h1.RebootKind != "real" || (h1.FencedBootId == before.boot) != c.fenced {
				t.Errorf("its reboot was %q, and boot %q was ended from outside", h1.RebootKind, h1.FencedBootId)
			}
			s.ready(t)
			after := s.guest(t, "h1")
			if after.kernel != before.kernel || after.boot == before.boot {
				t.Errorf("h1 ran %+v and runs %+v", before, after)
			}
			s.allRun(t)
			s.giveUp(t, rollout.Id)
		})
	}
	t.Run("no write was lost", s.checks)
}

// guest is what a host says of itself.
type guest struct{ kernel, boot string }

func (s *scene) guest(t *testing.T, host string) guest {
	t.Helper()
	return guest{s.in(t, host, "uname", "-r"), s.in(t, host, "cat", "/proc/sys/kernel/random/boot_id")}
}

// rollOut has the lab's pool patched, and returns the rollout when it rests.
func (s *scene) rollOut(t *testing.T) *drydockv1.Rollout {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), restLimit)
	defer cancel()
	begun, err := s.StartRollout(ctx, connect.NewRequest(&drydockv1.StartRolloutRequest{Pool: lab.Pool}))
	if err != nil {
		t.Fatal(err)
	}
	if begun.Msg.Rollout == nil {
		t.Fatalf("no rollout begins: %v", begun.Msg.Plan)
	}
	id := begun.Msg.Rollout.Id
	stream, err := s.WatchRollout(ctx, connect.NewRequest(&drydockv1.WatchRolloutRequest{Id: id}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	found, err := s.GetRollout(ctx, connect.NewRequest(&drydockv1.GetRolloutRequest{Id: id}))
	if err != nil {
		t.Fatal(err)
	}
	return found.Msg.Rollout
}

// allRun looks whether the pod runs, and its clients are answered.
func (s *scene) allRun(t *testing.T) {
	t.Helper()
	list, err := s.ListPods(t.Context(), connect.NewRequest(&drydockv1.ListPodsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Msg.Pods {
		if p.Phase != drydockv1.PodPhase_POD_PHASE_RUNNING {
			t.Errorf("pod %s is %s: %s", p.GetSpec().GetName(), p.Phase, p.Message)
		}
	}
	acked := s.writers.Acked()
	for deadline := time.Now().Add(time.Minute); s.writers.Acked() == acked; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no write is acknowledged any more")
		}
	}
}

// giveUp ends the rollout, and has the host be used again as it is. The broken kernel stays installed.
func (s *scene) giveUp(t *testing.T, rollout string) {
	t.Helper()
	if _, err := s.AbortRollout(t.Context(), connect.NewRequest(&drydockv1.AbortRolloutRequest{Id: rollout})); err != nil {
		t.Fatal(err)
	}
	if out, err := s.operate(t.Context(), "host", "resume", "h1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := s.Move(t.Context(), pod, "h1", drydockv1.MigrationMode_MIGRATION_MODE_STOP, nil); err != nil {
		t.Fatal(err)
	}
}
