//go:build root

package dnf_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/internal/dnftest"
	"drydock/internal/patchtest"
	"drydock/patch"

	drydockv1 "drydock/api/drydock/v1"

	"golang.org/x/sys/unix"
)

func TestAPackageWhosePostFailsIsNamedWithItsLastWordsAndMayBeTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.Shell()
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"}, dnftest.RPM{Name: "other", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "other", Version: "2.0"}, dnftest.RPM{Name: "tool", Version: "2.0", Scripts: map[string]string{
		"post": "if [ ! -e /mended ]; then echo the disk is on fire; exit 7; fi; : >/ran"}})
	p := w.Ready()
	result := w.Apply(p)
	text := patchtest.Reasons(result.Refusals)
	if result.Done || len(result.Refusals) != 1 || !strings.HasPrefix(text, "package tool: its POSTIN script failed: ") || !strings.Contains(text, "exit status 7") || !strings.Contains(text, "the disk is on fire") {
		t.Fatal(result)
	}
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
	if again := w.Apply(p); !again.Ended.AsTime().Equal(result.Ended.AsTime()) || again.Done {
		t.Error("it was tried again without being asked to:", again)
	}
	if res, err := w.Host.Verify(t.Context(), &drydockv1.VerifyRequest{Patch: p}); err != nil || !strings.Contains(patchtest.Reasons(res.Refusals), "package tool 2.0-1: its POSTIN script failed") {
		t.Error("rpm takes it for installed, and so does Drydock:", res, err)
	}
	w.Write("root/mended", "")
	w.Done(w.ApplyWith(patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep, Again: true}, patchtest.Quiet))
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
	return w.Ready()
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
				group.Go(func() { result = w.Apply(p) })
				w.Await("the script", func() bool { return w.exists("root/stands") })
				w.kill(programs...)
				time.Sleep(300 * time.Millisecond)
				// The script is nobody's child now, or still dnf's: it goes on either way, and so does one that is started anew.
				w.letGo()
				group.Wait()
				w.Done(result)
				w.at(map[string]string{"tool": "2.0", "other": "2.0"})
				if !w.exists("root/ran") || w.Read("root/usr/lib/tool") != "2.0" {
					t.Error("it is not installed to its end")
				}
				w.Await("the programs' end", func() bool { return len(w.processes(self())) == 0 })
			})
		}
	}
}

func TestAnInstallationThatIsKilledWhileItIsRepairedIsFinished(t *testing.T) {
	w := newWorld(t)
	p := w.interruption("post")
	var group sync.WaitGroup
	var result *drydockv1.PatchResult
	group.Go(func() { result = w.Apply(p) })
	for range 2 {
		w.Await("the script", func() bool { return w.exists("root/stands") && len(w.processes("python3")) > 0 })
		w.kill("python3")
		w.Await("dnf's end", func() bool { return len(w.processes("python3")) == 0 })
		os.Remove(w.Path("root/stands"))
	}
	w.letGo()
	group.Wait()
	w.Done(result)
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
}

func TestAnInstallationThatSomebodyElseLeftHalfWayIsRepaired(t *testing.T) {
	w := newWorld(t)
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"}, dnftest.RPM{Name: "third", Version: "1.0"}, dnftest.RPM{Name: "kernel-core", Version: "6.12.94", More: multi})
	// As rpm leaves it when it is killed between a new version and the end of the old one.
	third := w.Build(dnftest.RPM{Name: "third", Version: "2.0"})
	w.Tool("rpm", "--root", w.Root, "-i", "--force", third)
	w.Tool("rpm", "--root", w.Root, "-i", w.Build(dnftest.RPM{Name: "kernel-core", Version: "6.12.95", More: multi}))
	w.Publish("base", "", "repo", third, w.Build(dnftest.RPM{Name: "tool", Version: "2.0"}))
	w.Trust("base")
	w.at(map[string]string{"third": "1.0 2.0"})
	status, err := w.look(t.Context(), true)
	if err != nil || !strings.Contains(patchtest.Reasons(status.Packages.Problems), "third-2.0-1.noarch and third-1.0-1.noarch are installed beside each other") || len(status.Packages.Problems) != 1 {
		t.Error(status.GetPackages().GetProblems(), err)
	}
	p := w.Ready()
	if res, err := w.Host.Verify(t.Context(), &drydockv1.VerifyRequest{Patch: p}); err != nil || !strings.Contains(patchtest.Reasons(res.Refusals), "package third 1.0-1 is installed beside another version") {
		t.Error(res, err)
	}
	w.Done(w.Apply(p))
	w.at(map[string]string{"tool": "2.0", "third": "2.0", "kernel-core": "6.12.94 6.12.95"})
}

func TestARepositoryThatVanishes(t *testing.T) {
	w := newWorld(t)
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0"})
	p := w.Patch()
	if err := os.Rename(w.Path("srv/base"), w.Path("srv/away")); err != nil {
		t.Fatal(err)
	}
	if err := w.Download(p); !strings.Contains(patchtest.Reasons(err), "dnf cannot fetch the patch") {
		t.Error("before the download:", err)
	}
	if result := w.Apply(p); result.Done || !strings.Contains(patchtest.Reasons(result.Refusals), "the file of tool 2.0-1 cannot be used") {
		t.Error(result)
	}
	if text := patchtest.Reasons(w.Resolve(patchtest.All()).Refusals); !strings.Contains(text, "the last refresh failed") {
		t.Error(text)
	}
	w.at(map[string]string{"tool": "1.0"})
	if err := os.Rename(w.Path("srv/away"), w.Path("srv/base")); err != nil {
		t.Fatal(err)
	}
	p = w.Ready()
	if err := os.RemoveAll(w.Path("srv/base")); err != nil {
		t.Fatal(err)
	}
	w.Done(w.ApplyWith(patch.Order{ID: "r2/h1", Patch: p, Conffiles: patch.Keep}, patchtest.Quiet))
	w.at(map[string]string{"tool": "2.0"})
}

func TestNothingIsInstalledFromMetadataThatCannotBeBelieved(t *testing.T) {
	const list = "srv/base/repodata/repomd.xml"
	for name, test := range map[string]struct {
		spoil  func(w *world)
		reason string
	}{
		"unsigned":          {func(w *world) { os.Remove(w.Path(list + ".asc")) }, "the last refresh failed"},
		"signed by another": {func(w *world) { w.Key("stranger"); w.Sign("base", "stranger") }, "the last refresh failed"},
		"tampered with":     {func(w *world) { w.Replace(w.Path(list), "<revision>", "<revision>1") }, "the last refresh failed"},
		"that dnf is told not to verify": {func(w *world) {
			w.Configure("base", "repo_gpgcheck=0\ngpgcheck=1\ngpgkey=file://"+w.Path("repo.asc"))
		}, "repo_gpgcheck=0"},
		"expired": {func(w *world) { w.late = 72 * time.Hour }, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Install(dnftest.RPM{Name: "tool", Version: "1.0"})
			w.offer(dnftest.RPM{Name: "tool", Version: "2.0"})
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
	w := newWorld(t)
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0"})
	p := w.Patch()
	const file = "srv/base/tool-2.0-1.noarch.rpm"
	good := w.Read(file)
	w.Write(file, good[:len(good)-1]+"x")
	if err := w.Download(p); !strings.Contains(patchtest.Reasons(err), "dnf cannot fetch the patch") {
		t.Error("changed on the way:", err)
	}
	w.Write(file, good)
	if err := w.Download(p); err != nil {
		t.Fatal(err)
	}
	w.Write("data/patches/files/tool-2.0-1.noarch.rpm", good[:len(good)-1]+"x")
	if result := w.Apply(p); result.Done || !strings.Contains(patchtest.Reasons(result.Refusals), "has SHA-256") {
		t.Error("changed here:", result)
	}
	w.at(map[string]string{"tool": "1.0"})
}

func TestThePackagesOwnSignatureCountsWhereTheHostWantsIt(t *testing.T) {
	for name, test := range map[string]struct{ key, reason, remedy string }{
		"signed":            {"repo", "", ""},
		"unsigned":          {"", "the signature of tool-2.0-1.noarch is not good", "see who answers in the place of repository base"},
		"signed by another": {"stranger", "Public key for tool-2.0-1.noarch.rpm is not installed", "name it by gpgkey in "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Key("stranger")
			w.Install(dnftest.RPM{Name: "tool", Version: "1.0"})
			w.Configure("base", "repo_gpgcheck=1\ngpgcheck=1\ngpgkey=file://"+w.Path("repo.asc"))
			w.offer(dnftest.RPM{Name: "tool", Version: "2.0", Key: test.key})
			err := w.Download(w.Patch())
			var refused *patch.Refused
			switch {
			case test.reason == "" && err != nil:
				t.Error(err)
			case test.reason != "" && (!errors.As(err, &refused) || !strings.Contains(refused.Reasons[0].Reason, test.reason) ||
				!strings.Contains(refused.Reasons[0].Remedy, test.remedy)):
				t.Error(err)
			}
		})
	}
}

// fullDisk is a world whose patch does not fit on a disk of its own, and how that disk grows.
func fullDisk(t *testing.T) (w *world, p *drydockv1.Patch, grow func()) {
	t.Helper()
	w = newWorld(t)
	if err := os.MkdirAll(w.Path("root/srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("disk", w.Path("root/srv"), "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(w.Path("root/srv"), 0) })
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0", Files: map[string]string{"srv/tool": "1.0"}}, dnftest.RPM{Name: "other", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0", Files: map[string]string{"srv/tool": "2.0", "srv/data": strings.Repeat("d", 2<<20)}}, dnftest.RPM{Name: "other", Version: "2.0"})
	return w, w.Ready(), func() {
		if err := unix.Mount("disk", w.Path("root/srv"), "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADiskThatIsTooFullIsRefusedBeforeAnythingIsChanged(t *testing.T) {
	w, p, grow := fullDisk(t)
	result := w.Apply(p)
	if text := patchtest.Reasons(result.Refusals); result.Done || !strings.Contains(text, "dnf cannot install the patch") || !strings.Contains(text, "more space needed on the") {
		t.Fatal(result)
	}
	w.at(map[string]string{"tool": "1.0", "other": "1.0"})
	if left := w.Read("data/patches/unfinished.json"); left != "[]" {
		t.Error("what did not begin is taken for unfinished:", left)
	}
	grow()
	w.Done(w.ApplyWith(patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep, Again: true}, patchtest.Quiet))
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
}

func TestADiskThatFillsUpMeanwhileIsNamedAndThePatchMayBeTriedAgain(t *testing.T) {
	w, p, grow := fullDisk(t)
	w.Write("dnf.conf", w.Read("dnf.conf")+"diskspacecheck=0\n") // so that it is noticed only then
	result := w.Apply(p)
	if text := patchtest.Reasons(result.Refusals); result.Done || !strings.Contains(text, "unpacking rpm package tool-2.0-1.noarch") || !strings.Contains(result.Log, "write failed") {
		t.Fatal(result)
	}
	w.at(map[string]string{"tool": "1.0", "other": "2.0"})
	grow()
	w.Done(w.ApplyWith(patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep, Again: true}, patchtest.Quiet))
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
	if w.Read("root/srv/tool") != "2.0" {
		t.Error("its file is not the new one")
	}
}

func TestAKernelThatDoesNotFitIntoBootIsRefused(t *testing.T) {
	w := newWorld(t)
	if err := unix.Mount("boot", w.Path("boot"), "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(w.Path("boot"), 0)
	w.Have(dnftest.RPM{Name: "kernel-core", Version: "6.12.94", More: multi})
	w.Write("boot/vmlinuz-6.12.94-1.noarch", strings.Repeat("k", 800<<10))
	w.Write("boot/initramfs-6.12.94-1.noarch.img", strings.Repeat("i", 900<<10))
	w.offer(dnftest.RPM{Name: "kernel-core", Version: "6.12.117", More: multi})
	res := w.Resolve(patchtest.All())
	if text := patchtest.Reasons(res.Refusals); len(res.Refusals) != 1 || !strings.Contains(text, "kernel 6.12.117-1.noarch needs 2.5 MiB") || !strings.Contains(res.Refusals[0].Remedy, "--oldinstallonly") {
		t.Error(res.Refusals)
	}
}
