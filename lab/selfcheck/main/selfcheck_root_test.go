//go:build root

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/lab/images"
	"drydock/lab/internal/testnet"
	"drydock/lab/load"
	"drydock/lab/selfcheck"
)

const addr = "127.0.0.1:7070"

// workbench is the program of the image, run bare.
type workbench struct {
	*selfcheck.Client
	root string
	pid  string
}

func startWorkbench(t *testing.T, args ...string) *workbench {
	t.Helper()
	set, err := images.Build(t.Context(), "/var/cache/drydock/images", t.Output())
	if err != nil {
		t.Fatal(err)
	}
	w := &workbench{root: t.TempDir()}
	cmd, err := set.Bare(context.Background(), images.Workbench, w.root, args...)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	dialer := load.Dialer{Netns: testnet.New(t)}
	if err := dialer.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("it said:\n%s", out.String())
		}
	})
	w.pid = strconv.Itoa(cmd.Process.Pid)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if w.Client, err = selfcheck.Dial(t.Context(), dialer.DialContext, addr); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// rounds waits until so many more rounds of checks are over.
func (w *workbench) rounds(t *testing.T, more int64) selfcheck.Report {
	t.Helper()
	first, err := w.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for {
		report, err := w.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if report.Rounds >= first.Rounds+more {
			return report
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestNothingFailsInAProgramThatIsLeftAloneOrStandsStill(t *testing.T) {
	w := startWorkbench(t, "--also", "eventfd-semaphore,stopped-child")
	report := w.rounds(t, 50)
	if failed := report.Failed(); len(failed) > 0 || len(report.Checks) != len(makers())+len(beyondCRIU()) {
		t.Fatalf("%d checks, failed: %+v", len(report.Checks), failed)
	}
	pid, err := strconv.Atoi(w.pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
	}
	report = w.rounds(t, 10)
	if failed := report.Failed(); len(failed) > 0 || report.Gaps == 0 || report.LongestGap < 1000 {
		t.Errorf("after a standstill of 3 s: %d gaps, the longest %.0f ms, failed: %+v", report.Gaps, report.LongestGap, failed)
	}
}

func TestAChangeFromOutsideIsFound(t *testing.T) {
	for _, change := range []struct {
		check string
		args  []string
	}{
		{"identity", []string{"nsenter", "--uts", "--target", "PID", "hostname", "changed"}},
		{"limits", []string{"prlimit", "--pid", "PID", "--nofile=99:99"}},
		{"posix-shared-memory", []string{"nsenter", "--mount", "--target", "PID", "rm", "ROOT/dev/shm/selfcheck"}},
		{"sysv-messages", []string{"nsenter", "--ipc", "--target", "PID", "ipcrm", "--all=msg"}},
	} {
		t.Run(change.check, func(t *testing.T) {
			w := startWorkbench(t)
			w.rounds(t, 2)
			for i := range change.args {
				change.args[i] = strings.NewReplacer("PID", w.pid, "ROOT", w.root).Replace(change.args[i])
			}
			if out, err := exec.Command(change.args[0], change.args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			failed := w.rounds(t, 2).Failed()
			if len(failed) != 1 || failed[0].Name != change.check {
				t.Errorf("failed: %+v, want %s", failed, change.check)
			}
		})
	}
}

func TestTheGenerationCounterOfAProgramThatStandsStillShowsNoViolation(t *testing.T) {
	w := startWorkbench(t, "--listen", addr, "--generation-file", "/tmp")
	w.rounds(t, 5)
	pid, err := strconv.Atoi(w.pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	report := w.rounds(t, 5)
	g, err := selfcheck.ReadGeneration(filepath.Join(w.root, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	if g.Violations != 0 || g.Counter == 0 || report.Generation.Violations != 0 || g.Counter < report.Generation.Counter {
		t.Errorf("got %+v, reported %+v", g, report.Generation)
	}
	if last := g.Events[len(g.Events)-1]; last.What != "resumed" || last.Instance != report.Instance {
		t.Errorf("the last event is %+v, want the standstill", last)
	}
	if _, err := os.Stat(filepath.Join(w.root, "tmp", "generation")); err != nil {
		t.Error(err)
	}
}
