package migrate

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// criu stands in for CRIU in the hook: a process that runs the script and waits for it, as CRIU does at each stage.
func criu(t *testing.T, h hook, stage string) (ended <-chan error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sh", "-c", `"$0"; exit $?`, h.script())
	command.Env = append(os.Environ(), "CRTOOLS_SCRIPT_ACTION="+stage)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	return done
}

func makeHook(t *testing.T) hook {
	t.Helper()
	h, err := newHook(filepath.Join(t.TempDir(), "hook"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 5000 {
		if holds() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("not so: %s", what)
}

func TestTheHookWaitsForTheVerdictAndPassesItOn(t *testing.T) {
	for _, commit := range []bool{true, false} {
		h := makeHook(t)
		if h.waiting() {
			t.Error("waits before CRIU has asked")
		}
		ended := criu(t, h, "post-restore")
		eventually(t, "CRIU waits", h.waiting)
		if h.released() || !h.working() || h.driven() {
			t.Errorf("before the verdict: released %t, working %t, driven by runc %t", h.released(), h.working(), h.driven())
		}
		select {
		case err := <-ended:
			t.Fatalf("the hook did not wait: %v", err)
		default:
		}
		if err := h.answer(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; (err == nil) != commit {
			t.Errorf("commit is %t, the script ends with %v", commit, err)
		}
		if h.waiting() || h.resumed() || h.working() || h.released() != commit {
			t.Errorf("after the end: waiting %t, resumed %t, working %t, released %t", h.waiting(), h.resumed(), h.working(), h.released())
		}
	}
}

func TestARefusalThatComesBeforeCRIUAsksIsNotLost(t *testing.T) {
	h := makeHook(t)
	if err := h.answer(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := <-criu(t, h, "post-restore"); err == nil {
		t.Error("CRIU went on")
	}
	// Another attempt asks anew.
	if _, err := newHook(h.dir); err != nil {
		t.Fatal(err)
	}
	ended := criu(t, h, "post-restore")
	eventually(t, "CRIU waits", h.waiting)
	if err := h.answer(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the second attempt: %v", err)
	}
}

func TestACommitThatNobodyWaitsForIsNotKeptForLater(t *testing.T) {
	h := makeHook(t)
	if err := h.answer(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	ended := criu(t, h, "post-restore")
	eventually(t, "CRIU waits", h.waiting)
	if err := h.answer(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("an earlier verdict counted")
	}
}

func TestTheHookMarksThatTheTasksWereLetGoAndMindsNoOtherStage(t *testing.T) {
	h := makeHook(t)
	for _, stage := range []string{"pre-restore", "setup-namespaces", "post-setup-namespaces", "pre-resume"} {
		if err := <-criu(t, h, stage); err != nil || h.released() || h.waiting() {
			t.Errorf("%s: %v", stage, err)
		}
	}
	if err := <-criu(t, h, "post-resume"); err != nil || !h.resumed() {
		t.Errorf("post-resume: %v, resumed %t", err, h.resumed())
	}
	if _, err := newHook(h.dir); err != nil || h.resumed() {
		t.Errorf("made anew: %v, resumed %t", err, h.resumed())
	}
}

func TestAHookWhoseProcessesEndedDoesNotWait(t *testing.T) {
	h := makeHook(t)
	for _, content := range []string{"", "1", "x y", "999999999 999999998", "1 999999999"} {
		if err := os.WriteFile(filepath.Join(h.dir, "asked"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if h.waiting() {
			t.Errorf("%q waits", content)
		}
	}
}
