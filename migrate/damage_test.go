package migrate

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/pods"
)

// unread is a store that nobody may ask: it is asked only about pods that are understood.
type unread struct {
	Store
	t *testing.T
}

func (s unread) Look(_ context.Context, pod string) owner.View {
	s.t.Errorf("the store is asked about %s", pod)
	return owner.View{}
}

// newEngine is one over an empty directory, of a host that no containerd runs on.
func newEngine(t *testing.T) *Engine {
	t.Helper()
	dir := t.TempDir()
	runtime, err := pods.New(pods.Config{
		Socket: filepath.Join(dir, "containerd.sock"), Namespace: "drydock", DataDir: dir, RunDir: filepath.Join(dir, "run"), Bridge: "br0",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close() })
	return New(Config{
		Here: owner.Place{Host: "h2", BootID: "b2"}, DataDir: dir, RunDir: filepath.Join(dir, "run"), Pods: runtime,
		Store: unread{t: t}, Log: slog.New(slog.DiscardHandler),
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBeReadIsNamedAndNotTouchedAndKeepsNoAgentFromStarting(t *testing.T) {
	e := newEngine(t)
	damaged := map[string]string{
		filepath.Join(e.DataDir, "journal", "torn.json"):          `{"version": 1, "po`,
		filepath.Join(e.DataDir, "journal", "newer.json"):         `{"version": 99, "pod": "newer", "side": "resident", "stage": "up"}`,
		filepath.Join(e.DataDir, "pods", "garbled", "pod.json"):   "\x00\x00\x00",
		filepath.Join(e.DataDir, "pods", "from-2030", "pod.json"): `{"version": 99}`,
	}
	for path, text := range damaged {
		write(t, path, text)
	}
	if err := e.Resume(t.Context()); err != nil {
		t.Fatalf("the agent does not start: %v", err)
	}
	names, err := e.Remembered()
	if want := []string{"from-2030", "garbled", "newer", "torn"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("remembered are %v, %v", names, err)
	}
	for _, pod := range names {
		if err := e.Damage(pod); !errors.Is(err, ErrDamaged) {
			t.Errorf("pod %s: %v", pod, err)
		}
		if err := e.Tend(t.Context()); err == nil || !strings.Contains(err.Error(), "pod "+pod) {
			t.Errorf("tending does not name pod %s: %v", pod, err)
		}
		if err := e.Look(t.Context(), pod); !errors.Is(err, ErrDamaged) {
			t.Errorf("look after pod %s: %v", pod, err)
		}
		if err := e.Create(t.Context(), &pods.Record{Spec: &drydockv1.PodSpec{Name: pod}, Role: pods.Owned}); !errors.Is(err, ErrDamaged) {
			t.Errorf("make pod %s anew: %v", pod, err)
		}
		if err := e.Prepare(t.Context(), &drydockv1.ReceivePrepareRequest{
			Migration: &drydockv1.MigrationSpec{Id: "m1"}, Needs: &drydockv1.PodNeeds{Spec: &drydockv1.PodSpec{Name: pod}},
		}); !errors.Is(err, ErrDamaged) {
			t.Errorf("receive pod %s: %v", pod, err)
		}
	}
	for path, want := range damaged {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is now %q, %v", path, got, err)
		}
	}
}

func TestNamesThatLeadOutOfTheirDirectoryAreNotPrepared(t *testing.T) {
	e := newEngine(t)
	good := func() *drydockv1.ReceivePrepareRequest {
		return &drydockv1.ReceivePrepareRequest{
			Migration: &drydockv1.MigrationSpec{Id: "m1"},
			Needs: &drydockv1.PodNeeds{Spec: &drydockv1.PodSpec{
				Name: "web", Containers: []*drydockv1.Container{{Name: "main"}}, Volumes: []*drydockv1.Volume{{Name: "data"}},
			}},
		}
	}
	for what, spoil := range map[string]func(*drydockv1.ReceivePrepareRequest, string){
		"migration": func(r *drydockv1.ReceivePrepareRequest, name string) { r.Migration.Id = name },
		"pod":       func(r *drydockv1.ReceivePrepareRequest, name string) { r.Needs.Spec.Name = name },
		"container": func(r *drydockv1.ReceivePrepareRequest, name string) { r.Needs.Spec.Containers[0].Name = name },
		"volume":    func(r *drydockv1.ReceivePrepareRequest, name string) { r.Needs.Spec.Volumes[0].Name = name },
	} {
		for _, name := range []string{"", ".", "..", "../../etc", "/etc", "a/b", "a\x00b", "A", strings.Repeat("a", 64)} {
			req := good()
			spoil(req, name)
			if err := e.Prepare(t.Context(), req); err == nil || !strings.Contains(err.Error(), "is no name") {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
	if entries, err := os.ReadDir(e.DataDir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := validNames(good().Migration.Id, good().Needs.Spec); err != nil {
		t.Errorf("good names: %v", err)
	}
}

func TestOnlyTheSourceOfAMigrationSendsItsParts(t *testing.T) {
	e := newEngine(t)
	j := owner.Journal{
		Pod: "web", Side: owner.Destination, Stage: owner.Prepared, BootID: "b2", Migration: "m1", Peer: owner.Place{Host: "h1", BootID: "b1"},
	}
	if err := e.journals.save(j); err != nil {
		t.Fatal(err)
	}
	if err := e.FromSource("web", "m1", "h1"); err != nil {
		t.Errorf("the source: %v", err)
	}
	if err := e.FromSource("web", "m1", "h3"); err == nil {
		t.Error("a third host may send")
	}
	if err := e.FromSource("../web", "m1", "h1"); err == nil {
		t.Error("a path is taken for a pod's name")
	}
}
