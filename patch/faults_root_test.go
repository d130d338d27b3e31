//go:build root

package patch_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/apttest"
	"drydock/internal/patchtest"
	"drydock/patch"

	"google.golang.org/protobuf/encoding/protojson"
)

func TestAPackageWhosePostinstFailsIsNamedWithItsLastWordsAndMayBeTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"}, apttest.Deb{Name: "other", Version: "1.0"})
	w.offer(apttest.Deb{Name: "other", Version: "2.0"}, apttest.Deb{Name: "tool", Version: "2.0", Scripts: map[string]string{
		"postinst": "if [ ! -e " + w.Path("mended") + " ]; then echo the disk is on fire; exit 7; fi"}})
	p := w.Patch()
	if err := w.Download(p); err != nil {
		t.Fatal(err)
	}
	result := w.Apply(p)
	text := patchtest.Reasons(result.Refusals)
	if result.Done || len(result.Refusals) != 1 || !strings.HasPrefix(text, "package tool: ") || !strings.Contains(text, "exit status 7") || !strings.Contains(text, "the disk is on fire") {
		t.Fatal(result)
	}
	w.at(map[string]string{"tool": "2.0 half-configured", "other": "2.0"})
	if again := w.Apply(p); !again.Ended.AsTime().Equal(result.Ended.AsTime()) || again.Done {
		t.Error("it was tried again without being asked to:", again)
	}
	if text := patchtest.Reasons(w.Resolve(patchtest.All()).Refusals); !strings.Contains(text, "dpkg was stopped half-way with tool (half-configured)") {
		t.Error("a new patch, which would have nothing to install:", text)
	}
	w.Write("mended", "")
	w.Done(w.ApplyWith(patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep, Again: true}, patchtest.Quiet))
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
}

// interruption is an installation that stands still in a maintainer's script.
func (w *world) interruption(script string) (p *drydockv1.Patch) {
	w.t.Helper()
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"}, apttest.Deb{Name: "other", Version: "1.0"})
	w.offer(apttest.Deb{Name: "other", Version: "2.0", Depends: "tool"},
		apttest.Deb{Name: "tool", Version: "2.0", Files: map[string]string{"usr/lib/tool": "2.0"}, Scripts: map[string]string{script: w.slow("stands")}})
	p = w.Patch()
	if err := w.Download(p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func TestWhateverIsKilledHalfWayThePatchIsFinished(t *testing.T) {
	for name, names := range map[string][]string{
		"dpkg": {"dpkg"}, "apt": {"apt-get"}, "both": {"apt-get", "dpkg"}, "the program that works on packages": {self()}, "all of them": {self(), "apt-get", "dpkg"},
	} {
		for _, script := range []string{"preinst", "postinst"} {
			t.Run(name+" in "+script, func(t *testing.T) {
				w := newWorld(t)
				p := w.interruption(script)
				var group sync.WaitGroup
				var result *drydockv1.PatchResult
				group.Go(func() { result = w.Apply(p) })
				w.awaitFile("stands")
				w.kill(names...)
				time.Sleep(300 * time.Millisecond)
				// The script is nobody's child now, or still dpkg's: it goes on either way, and so does one that is started anew.
				w.letGo()
				group.Wait()
				w.Done(result)
				w.at(map[string]string{"tool": "2.0", "other": "2.0"})
				w.Await("the programs' end", func() bool { return len(w.processes(self())) == 0 })
			})
		}
	}
}

// letGo lets scripts that stand still go on, now and later.
func (w *world) letGo() {
	stop := make(chan struct{})
	w.t.Cleanup(func() { close(stop) })
	go func() {
		for {
			os.Remove(w.Path("stands"))
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
}

func TestWorkIsFoundAgainWhenWhoStartedItIsKilled(t *testing.T) {
	w := newWorld(t)
	p := w.interruption("postinst")
	data, err := protojson.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	w.Write("data/order.json", string(data))
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(program, "act", "agent", w.Path("apt.conf"), w.Path("data"))
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	w.awaitFile("stands")
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	worker := w.processes(self())
	if len(worker) != 1 {
		t.Fatal("programs that work on packages:", worker)
	}
	if _, err := w.Host.Apply(t.Context(), patch.Order{ID: "another", Patch: p, Conffiles: patch.Keep}, patchtest.Quiet); !strings.Contains(patchtest.Reasons(err), "another patch: r1/h1") {
		t.Error("a second patch was begun beside the first:", err)
	}
	if res, err := w.Host.Reboot(t.Context(), "boot-1", "", "test"); err != nil || !strings.Contains(patchtest.Reasons(res.Refusals), "packages are being installed: r1/h1") {
		t.Error(res, err)
	}
	w.begin()
	told := ""
	w.Done(w.ApplyWith(patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep}, func(_ int32, activity string) {
		if strings.HasPrefix(activity, "Configuring tool") && !strings.Contains(told, "Configuring tool") {
			w.letGo()
		}
		told += activity + "\n"
	}))
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
	if log := w.file(w.Path("data/patches/jobs/r1%2Fh1/log")); strings.Count(log, " apt-get install ") != 1 || !strings.Contains(told, "Configuring tool") {
		t.Errorf("told:\n%s\nlog:\n%s", told, log)
	}
}

func TestAnInstallationThatSomebodyElseLeftHalfWayIsRepairedFirst(t *testing.T) {
	w := newWorld(t)
	p := w.interruption("postinst")
	w.Build("debs", apttest.Deb{Name: "third", Version: "1.0", Scripts: map[string]string{"postinst": "[ -e " + w.Path("later") + " ]"}})
	dpkg := exec.Command("dpkg", "--root="+w.Root, "--force-script-chrootless", "-i", w.Path("debs/third_1.0_amd64.deb"))
	if err := dpkg.Run(); err == nil || w.Installed("third") != "1.0 half-configured" {
		t.Fatal(err, w.Installed("third"))
	}
	w.Write("later", "")
	w.letGo()
	w.Done(w.Apply(p))
	w.at(map[string]string{"tool": "2.0", "other": "2.0", "third": "1.0"})
}

func TestAPackageWhoseUnpackingWasCutOffIsUnpackedAgain(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"}, apttest.Deb{Name: "other", Version: "1.0"})
	w.offer(apttest.Deb{Name: "other", Version: "2.0"}, apttest.Deb{Name: "tool", Version: "2.0", Files: map[string]string{"usr/lib/tool": "2.0"}})
	p := w.Patch()
	if err := w.Download(p); err != nil {
		t.Fatal(err)
	}
	// As dpkg leaves it when it is killed while it unpacks.
	before, stanza, _ := strings.Cut(w.Read("var/lib/dpkg/status"), "Package: tool\n")
	stanza = strings.Replace(stanza, "Status: install ok installed\n", "Status: install reinstreq half-installed\n", 1)
	w.Write("var/lib/dpkg/status", before+"Package: tool\n"+strings.Replace(stanza, "Version: 1.0\n", "Version: 2.0\n", 1))
	if got := w.Installed("tool"); got != "2.0 half-installed" {
		t.Fatal(got)
	}
	w.Done(w.Apply(p))
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
	if got := w.Read("usr/lib/tool"); got != "2.0" {
		t.Errorf("its file holds %q", got)
	}
}

func TestAnArchiveThatVanishes(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"})
	w.offer(apttest.Deb{Name: "tool", Version: "2.0"})
	p := w.Patch()
	if err := os.Rename(w.Path("srv/stable"), w.Path("srv/away")); err != nil {
		t.Fatal(err)
	}
	if err := w.Download(p); !strings.Contains(patchtest.Reasons(err), "apt cannot fetch the patch") {
		t.Error("before the download:", err)
	}
	if result := w.Apply(p); result.Done || !strings.Contains(patchtest.Reasons(result.Refusals), "the file of tool 2.0 cannot be used") {
		t.Error(result)
	}
	if text := patchtest.Reasons(w.Resolve(patchtest.All()).Refusals); !strings.Contains(text, "the last refresh failed") {
		t.Error(text)
	}
	w.at(map[string]string{"tool": "1.0"})
	if err := os.Rename(w.Path("srv/away"), w.Path("srv/stable")); err != nil {
		t.Fatal(err)
	}
	p = w.Patch()
	if err := w.Download(p); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.Path("srv/stable")); err != nil {
		t.Fatal(err)
	}
	w.Done(w.ApplyWith(patch.Order{ID: "r2/h1", Patch: p, Conffiles: patch.Keep}, patchtest.Quiet))
	w.at(map[string]string{"tool": "2.0"})
}

func TestNothingIsInstalledFromMetadataThatCannotBeBelieved(t *testing.T) {
	const release = "srv/stable/dists/stable/InRelease"
	for name, test := range map[string]struct {
		spoil  func(w *world)
		reason string
	}{
		"expired": {func(w *world) {
			a := w.Good()
			a.Until, a.Packages = w.Now.Add(-time.Minute), []apttest.Deb{{Name: "tool", Version: "2.0"}}
			w.Publish(a)
		}, "expired"},
		"expired since it was fetched": {func(w *world) { w.Now = w.Now.Add(8 * 24 * time.Hour) }, "expired"},
		"unsigned": {func(w *world) {
			a := w.Good()
			a.Key, a.Packages = "", []apttest.Deb{{Name: "tool", Version: "2.0"}}
			w.Publish(a)
		}, "no longer signed"},
		"signed by another": {func(w *world) {
			w.Key("stranger")
			a := w.Good()
			a.Key, a.Packages = "stranger", []apttest.Deb{{Name: "tool", Version: "2.0"}}
			w.Publish(a)
		}, "NO_PUBKEY"},
		"tampered with": {func(w *world) {
			w.Write(release, strings.Replace(w.Read(release), "Label: Debian", "Label: Drebian", 1))
			w.Touch(release)
		}, "the last refresh failed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Install(apttest.Deb{Name: "tool", Version: "1.0"})
			w.offer(apttest.Deb{Name: "tool", Version: "2.0"})
			p := w.Patch()
			test.spoil(w)
			res := w.Resolve(patchtest.All())
			if text := patchtest.Reasons(res.Refusals); !strings.Contains(text, test.reason) || len(res.Patch.Packages) != 0 {
				t.Error("resolved:", res)
			}
			if err := w.Download(p); patchtest.Reasons(err) == "" {
				t.Error("a patch that was resolved before is downloaded:", err)
			}
			if result := w.Apply(p); result.Done || len(result.Refusals) == 0 {
				t.Error(result)
			}
			w.at(map[string]string{"tool": "1.0"})
		})
	}
}

func TestAPackageFileThatIsNotTheVerifiedOneIsNotInstalled(t *testing.T) {
	t.Run("a package file that was changed on the way", func(t *testing.T) {
		w := newWorld(t)
		w.Install(apttest.Deb{Name: "tool", Version: "1.0"})
		w.offer(apttest.Deb{Name: "tool", Version: "2.0"})
		p := w.Patch()
		const file = "srv/stable/pool/tool_2.0_amd64.deb"
		w.Write(file, strings.Replace(w.Read(file), "control", "contrll", 1))
		if err := w.Download(p); patchtest.Reasons(err) == "" {
			t.Error(err)
		}
	})
	t.Run("a package file that was changed here", func(t *testing.T) {
		w := newWorld(t)
		w.Install(apttest.Deb{Name: "tool", Version: "1.0"})
		w.offer(apttest.Deb{Name: "tool", Version: "2.0"})
		p := w.Patch()
		if err := w.Download(p); err != nil {
			t.Fatal(err)
		}
		w.Make("other")
		w.Build("other", apttest.Deb{Name: "tool", Version: "2.0", Scripts: map[string]string{"postinst": "touch " + w.Path("evil")}})
		w.Write("data/patches/files/tool_2.0_amd64.deb", w.Read("other/tool_2.0_amd64.deb"))
		if result := w.Apply(p); result.Done || !strings.Contains(patchtest.Reasons(result.Refusals), "has SHA-256") {
			t.Error(result)
		}
		w.at(map[string]string{"tool": "1.0"})
	})
	t.Run("a package without a sum", func(t *testing.T) {
		w := newWorld(t)
		p := &drydockv1.Patch{Packages: []*drydockv1.PinnedPackage{{Name: "tool", Arch: "amd64", To: "2.0"}}}
		if _, err := w.Host.Apply(t.Context(), patch.Order{ID: "a", Patch: p, Conffiles: patch.Keep}, patchtest.Quiet); patchtest.Reasons(err) == "" {
			t.Error(err)
		}
	})
}

func TestItWaitsForOthersThatWorkOnPackagesAndSaysWho(t *testing.T) {
	for _, lock := range []string{"var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock"} {
		t.Run(filepath.Base(lock), func(t *testing.T) {
			w := newWorld(t)
			w.Install(apttest.Deb{Name: "tool", Version: "1.0"})
			w.offer(apttest.Deb{Name: "tool", Version: "2.0"})
			p := w.Patch()
			if err := w.Download(p); err != nil {
				t.Fatal(err)
			}
			pid, release := w.LockedBy(lock)
			told := make(chan string, 100)
			var group sync.WaitGroup
			var result *drydockv1.PatchResult
			group.Go(func() {
				result = w.ApplyWith(patch.Order{ID: "a", Patch: p, Conffiles: patch.Keep}, func(_ int32, activity string) { told <- activity })
			})
			for activity := range told {
				if strings.HasPrefix(activity, "waits: ") {
					if !strings.Contains(activity, "python3 -c") || !strings.Contains(activity, fmt.Sprintf("(process %d)", pid)) || !strings.HasSuffix(activity, lock) {
						t.Error(activity)
					}
					break
				}
			}
			w.at(map[string]string{"tool": "1.0"})
			release()
			group.Wait()
			w.Done(result)
		})
	}
}
