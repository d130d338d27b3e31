//go:build root

package dnf_test

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/internal/dnftest"
	"drydock/patch"

	drydockv1 "drydock/api/drydock/v1"
)

func TestAPackageWhosePostFailsIsNamedWithItsLastWordsAndMayBeTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.Shell()
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"}, dnftest.RPM{Name: "other", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "other", Version: "2.0"}, dnftest.RPM{Name: "tool", Version: "2.0", Scripts: map[string]string{
		"post": "if [ ! -e /mended ]; then echo the disk is on fire; exit 7; fi; : >/ran"}})
	p := w.ready()
	result := w.apply(p)
	text := reasons(result.Refusals)
	if result.Done || len(result.Refusals) != 1 || !strings.HasPrefix(text, "package tool: its POSTIN script failed: ") || !strings.Contains(text, "exit status 7") || !strings.Contains(text, "the disk is on fire") {
		t.Fatal(result)
	}
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
	if again := w.apply(p); !again.Ended.AsTime().Equal(result.Ended.AsTime()) || again.Done {
		t.Error("it was tried again without being asked to:", again)
	}
	if res, err := w.host.Verify(t.Context(), &drydockv1.VerifyRequest{Patch: p}); err != nil || !strings.Contains(reasons(res.Refusals), "package tool 2.0-1: its POSTIN script failed") {
		t.Error("rpm takes it for installed, and so does Drydock:", res, err)
	}
	w.Write("root/mended", "")
	w.done(w.applyWith(patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep, Again: true}, func(int32, string) {}))
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
	if !w.exists("root/ran") {
		t.Error("the script did not run again")
	}
}

// interruption is an installation that stands still in a scriptlet.
func (w *world) interruption(script string) *drydockv1.Patch {
	w.t.Helper()
	w.Shell()
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0", Files: map[string]string{"usr/lib/tool": "1.0"}}, dnftest.RPM{Name: "other", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "other", Version: "2.0", More: "Requires: tool = 2.0"},
		dnftest.RPM{Name: "tool", Version: "2.0", Files: map[string]string{"usr/lib/tool": "2.0"}, Scripts: map[string]string{script: slow + "; : >/ran"}})
	return w.ready()
}

// letGo lets scripts that stand still go on, now and later.
func (w *world) letGo() {
	stop := make(chan struct{})
	w.t.Cleanup(func() { close(stop) })
	go func() {
		for {
			os.Remove(w.Path("root/stands"))
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
}

func TestWhateverIsKilledHalfWayThePatchIsFinished(t *testing.T) {
	for name, programs := range map[string][]string{
		"dnf": {"python3"}, "the program that works on packages": {self()}, "both": {self(), "python3"},
	} {
		for _, script := range []string{"pre", "post"} {
			t.Run(name+" in "+script, func(t *testing.T) {
				w := newWorld(t)
				p := w.interruption(script)
				var group sync.WaitGroup
				var result *drydockv1.PatchResult
				group.Go(func() { result = w.apply(p) })
				w.await("the script", func() bool { return w.exists("root/stands") })
				w.kill(programs...)
				time.Sleep(300 * time.Millisecond)
				// The script is nobody's child now, or still dnf's: it goes on either way, and so does one that is started anew.
				w.letGo()
				group.Wait()
				w.done(result)
				w.at(map[string]string{"tool": "2.0", "other": "2.0"})
				if !w.exists("root/ran") || w.Read("root/usr/lib/tool") != "2.0" {
					t.Error("it is not installed to its end")
				}
				w.await("the programs' end", func() bool { return len(w.processes(self())) == 0 })
			})
		}
	}
}
