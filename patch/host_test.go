package patch_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"

	"google.golang.org/protobuf/types/known/durationpb"
)

// plain is a host without a package manager, whose reboot is the making of a file.
func plain(t *testing.T, change func(*patch.Config)) (h *patch.Host, rebooted string) {
	t.Helper()
	dir := t.TempDir()
	rebooted = filepath.Join(dir, "rebooted")
	cfg := patch.Config{
		Dir: filepath.Join(dir, "patches"), Boot: "boot-1", BootDir: dir, Run: dir, RebootCommand: []string{"/bin/touch", rebooted}, Log: slog.New(slog.DiscardHandler),
		Pods:       func(context.Context) ([]string, error) { return nil, nil },
		Containerd: func(context.Context) (string, error) { return "v2", nil },
	}
	change(&cfg)
	h, err := patch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h, rebooted
}

func words(list []*drydockv1.Refusal) string {
	var text strings.Builder
	for _, r := range list {
		text.WriteString(r.Reason + " -> " + r.Remedy + "\n")
	}
	return text.String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestAHostIsNotRebootedWhileItHoldsAPod(t *testing.T) {
	here := []string{"cache", "web"}
	var broken error
	h, rebooted := plain(t, func(c *patch.Config) {
		c.Pods = func(context.Context) ([]string, error) { return here, broken }
	})
	res, err := h.Reboot(t.Context(), "boot-1", "", "test")
	if text := words(res.GetRefusals()); err != nil || !strings.Contains(text, "pod cache is here -> ") || !strings.Contains(text, "pod web is here -> ") {
		t.Error(res, err)
	}
	here, broken = nil, errors.New("containerd does not answer")
	if res, err := h.Reboot(t.Context(), "boot-1", "", "test"); err == nil {
		t.Error("without a proof:", res)
	}
	broken = nil
	known, err := h.Coming()
	if err != nil {
		t.Fatal(err)
	}
	if res, err := h.Reboot(t.Context(), "boot-1", "", "test"); err != nil || !strings.Contains(words(res.Refusals), "a pod is on its way here") {
		t.Error(res, err)
	}
	known()
	time.Sleep(1500 * time.Millisecond)
	if exists(rebooted) {
		t.Error("it was rebooted")
	}
}

func TestAnEmptyHostIsRebootedOnceAndTakesNoPodFromThenOn(t *testing.T) {
	h, rebooted := plain(t, func(*patch.Config) {})
	if res, err := h.Reboot(t.Context(), "boot-0", "", "test"); err != nil || !res.Already || exists(rebooted) {
		t.Fatal(res, err)
	}
	for range 2 {
		res, err := h.Reboot(t.Context(), "boot-1", "", "test")
		if err != nil || len(res.Refusals) != 0 || res.Already || res.Kind != patch.Real {
			t.Error(res, err)
		}
	}
	if exists(rebooted) {
		t.Error("it went down before it answered")
	}
	if _, err := h.Coming(); err == nil {
		t.Error("a pod may come to a host that goes down")
	}
	p := &drydockv1.Patch{}
	if _, err := h.Apply(t.Context(), patch.Order{ID: "a", Patch: p, Conffiles: patch.Keep}, func(int32, string) {}); err == nil {
		t.Error("packages are installed on a host that goes down")
	}
	for range 100 {
		if exists(rebooted) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("it was not rebooted")
}

func TestARebootThatFailsIsToldAndMayBeTriedAgain(t *testing.T) {
	h, _ := plain(t, func(c *patch.Config) { c.RebootCommand = []string{"/bin/false"} })
	if res, err := h.Reboot(t.Context(), "boot-1", "", "test"); err != nil || len(res.Refusals) != 0 {
		t.Fatal(res, err)
	}
	for range 100 {
		time.Sleep(50 * time.Millisecond)
		res, err := h.Reboot(t.Context(), "boot-1", "", "test")
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Refusals) > 0 {
			if !strings.Contains(words(res.Refusals), "/bin/false: exit status 1") {
				t.Error(res.Refusals)
			}
			if done, err := h.Coming(); err != nil {
				t.Error("no pod may come:", err)
			} else {
				done()
			}
			return
		}
	}
	t.Error("the failure was not told")
}

func TestASimulatedRebootNeedsACommandThatDoesIt(t *testing.T) {
	h, _ := plain(t, func(c *patch.Config) { c.Simulated, c.RebootCommand = true, nil })
	res, err := h.Reboot(t.Context(), "boot-1", "", "test")
	if err != nil || res.Kind != patch.Simulated || !strings.Contains(words(res.Refusals), "`reboot.command`") {
		t.Error(res, err)
	}
}

func TestAHostIsVerifiedAgainstItsPatch(t *testing.T) {
	broken := errors.New("connection refused")
	probed := 0
	h, _ := plain(t, func(c *patch.Config) {
		c.Containerd = func(context.Context) (string, error) { return "", broken }
		c.Probe = func(context.Context) []*drydockv1.Refusal {
			probed++
			return []*drydockv1.Refusal{patch.Refusal("install another CRIU", "it cannot restore")}
		}
	})
	verify := func(req *drydockv1.VerifyRequest) string {
		t.Helper()
		res, err := h.Verify(t.Context(), req)
		if err != nil || res.BootId != "boot-1" || res.Kernel == "" {
			t.Fatal(res, err)
		}
		return words(res.Refusals) + strings.Join(res.Unchecked, "\n")
	}
	kernel := &drydockv1.Patch{Kernel: "99.9-another"}
	if text := verify(&drydockv1.VerifyRequest{OldBootId: "boot-1", Patch: kernel}); !strings.Contains(text, "still in boot boot-1") || !strings.Contains(text, "connection refused") || probed != 0 {
		t.Error(text)
	}
	broken = nil
	if text := verify(&drydockv1.VerifyRequest{OldBootId: "boot-0", Patch: kernel}); !strings.Contains(text, "and the patch wants 99.9-another") || probed != 0 {
		t.Error(text)
	}
	if text := verify(&drydockv1.VerifyRequest{OldBootId: "boot-0"}); !strings.Contains(text, "it cannot restore") || probed != 1 {
		t.Error(text)
	}
	if text := verify(&drydockv1.VerifyRequest{OldBootId: "boot-0", WithoutProbe: true}); strings.Contains(text, "->") || !strings.Contains(text, "no probe was asked for") || probed != 1 {
		t.Error(text)
	}
	h, _ = plain(t, func(c *patch.Config) { c.Simulated = true })
	if text := verify(&drydockv1.VerifyRequest{OldBootId: "boot-0", Patch: kernel}); strings.Contains(text, "->") || !strings.Contains(text, "the reboot was simulated") {
		t.Error(text)
	}
}

func TestContainerdMayTakeAWhileToStart(t *testing.T) {
	asked := 0
	h, _ := plain(t, func(c *patch.Config) {
		c.Settle = time.Minute
		c.Containerd = func(context.Context) (string, error) {
			if asked++; asked < 3 {
				return "", errors.New("not yet")
			}
			return "v2", nil
		}
	})
	if res, err := h.Verify(t.Context(), &drydockv1.VerifyRequest{}); err != nil || len(res.Refusals) != 0 || asked != 3 {
		t.Error(asked, res, err)
	}
}

func TestWithoutAPackageManagerEverythingThatNeedsOneIsRefused(t *testing.T) {
	h, _ := plain(t, func(*patch.Config) {})
	if res, err := h.Resolve(t.Context(), &drydockv1.PatchPolicy{What: patch.All}, false); err != nil || !strings.Contains(words(res.Refusals), "no package manager") {
		t.Error(res, err)
	}
	var refused *patch.Refused
	if err := h.Download(t.Context(), &drydockv1.Patch{}, func(int32, string) {}); !errors.As(err, &refused) {
		t.Error(err)
	}
}

func TestAnIDThatCouldLeadOutOfTheDirectoryIsTurnedDown(t *testing.T) {
	h, _ := plain(t, func(*patch.Config) {})
	for _, id := range []string{"", ".", "..", "../x", ".hidden", strings.Repeat("a", 300)} {
		if _, err := h.Apply(t.Context(), patch.Order{ID: id, Patch: &drydockv1.Patch{}, Conffiles: patch.Keep}, func(int32, string) {}); err == nil {
			t.Errorf("%q was taken", id)
		}
	}
}

func TestAHookRunsWithItsPlaceInTheEnvironmentAndWithinItsTime(t *testing.T) {
	h, _ := plain(t, func(*patch.Config) {})
	run := func(within time.Duration, command ...string) (*drydockv1.RunHookResponse, error) {
		return h.RunHook(t.Context(), &drydockv1.RunHookRequest{Command: command, Timeout: durationpb.New(within), Pool: "web", Rollout: "r1", Host: "h1"})
	}
	res, err := run(time.Minute, "/bin/sh", "-c", "echo $DRYDOCK_POOL $DRYDOCK_ROLLOUT $DRYDOCK_HOST; exit 3")
	if err != nil || res.ExitStatus != 3 || res.Output != "web r1 h1" {
		t.Error(res, err)
	}
	started := time.Now()
	if _, err := run(3*time.Second, "/bin/sh", "-c", "echo begins; sleep 60 & wait"); err == nil || !strings.Contains(err.Error(), "begins") || time.Since(started) > 30*time.Second {
		t.Error(err)
	}
	for _, command := range [][]string{nil, {"sh"}, {"/nowhere/to/be/found"}} {
		if res, err := run(time.Minute, command...); err == nil {
			t.Errorf("%q ran: %v", command, res)
		}
	}
}
