package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/migrate"
	"drydock/migrate/owner"
	"drydock/pods"
)

// newTestAgent is one of a host that no containerd runs on.
func newTestAgent(t *testing.T) *agent {
	t.Helper()
	dir := t.TempDir()
	runtime, err := pods.New(pods.Config{Socket: filepath.Join(dir, "none.sock"), Namespace: namespace, DataDir: dir, RunDir: dir, Bridge: "br0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close() })
	a := &agent{cfg: config.Agent{DataDir: dir}, log: slog.New(slog.DiscardHandler), here: owner.Place{Host: "h1", BootID: "b1"}, pods: runtime}
	a.engine = migrate.New(migrate.Config{Here: a.here, DataDir: dir, RunDir: dir, Pods: runtime, Log: a.log})
	a.watching = newSupervisor(a)
	return a
}

func TestAPodThatCannotBeLookedAtSilencesNoOther(t *testing.T) {
	a := newTestAgent(t)
	// No container is asked for, so this one can be looked at without containerd.
	if err := a.pods.Save(&pods.Record{Spec: &drydockv1.PodSpec{Name: "fine"}, Role: pods.Owned}); err != nil {
		t.Fatal(err)
	}
	container := []*drydockv1.Container{{Name: "main"}}
	if err := a.pods.Save(&pods.Record{Spec: &drydockv1.PodSpec{Name: "lost-touch", Containers: container}, Role: pods.Owned}); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(a.cfg.DataDir, "pods", "garbled", "pod.json"):  "{",
		filepath.Join(a.cfg.DataDir, "journal", "torn-journal.json"): "{",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all, err := a.watching.all(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]*drydockv1.Pod)
	for _, pod := range all {
		got[pod.Spec.Name] = pod
	}
	if len(all) != 4 || got["fine"].GetPhase() != drydockv1.PodPhase_POD_PHASE_RUNNING {
		t.Errorf("reported are %v", all)
	}
	for name, why := range map[string]string{"lost-touch": "", "garbled": "record of pod garbled", "torn-journal": "load journal"} {
		if got[name].GetPhase() != drydockv1.PodPhase_POD_PHASE_UNKNOWN || got[name].GetMessage() == "" || !strings.Contains(got[name].GetMessage(), why) {
			t.Errorf("pod %s is reported as %v", name, got[name])
		}
	}
}

func TestAPodIsLookedAfterOnceAtATimeAndDelaysNoOther(t *testing.T) {
	s := newSupervisor(newTestAgent(t))
	if !s.begin("slow") || s.begin("slow") {
		t.Error("a pod is looked after twice at once")
	}
	if !s.begin("other") {
		t.Error("another pod waits for it")
	}
	s.end("slow")
	if !s.begin("slow") {
		t.Error("it is not looked after again")
	}
}
