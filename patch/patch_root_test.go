//go:build root

package patch_test

import (
	"context"
	"os"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/apttest"
	"drydock/internal/patchtest"
	"drydock/patch"

	"github.com/google/go-cmp/cmp"
)

const (
	oldKernel = "linux-image-6.12.94+deb13-amd64"
	newKernel = "linux-image-6.12.117+deb13-amd64"
)

func TestAPatchIsAnExactListWithAllThatItPullsIn(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"}, apttest.Deb{Name: "libc6", Version: "2.41-1"}, apttest.Deb{Name: "other", Version: "1.0"},
		apttest.Deb{Name: oldKernel, Version: "6.12.94-1"}, apttest.Deb{Name: "linux-image-amd64", Version: "6.12.94-1", Depends: oldKernel})
	w.offer(apttest.Deb{Name: "tool", Version: "2.0", Depends: "libtool"}, apttest.Deb{Name: "libtool", Version: "1:5-1"}, apttest.Deb{Name: "libc6", Version: "2.41-2"},
		apttest.Deb{Name: "other", Version: "2.0"}, apttest.Deb{Name: newKernel, Version: "6.12.117-1"},
		apttest.Deb{Name: "linux-image-amd64", Version: "6.12.117-1", Depends: newKernel})
	res := w.Resolve(&drydockv1.PatchPolicy{What: patch.All, Hold: []string{"other"}})
	if len(res.Refusals) != 0 {
		t.Fatal(res.Refusals)
	}
	got := map[string]string{}
	for _, p := range res.Patch.Packages {
		got[p.Name] = p.From + " -> " + p.To + ": " + p.Reason
		if len(p.Sha256) != 64 || p.DownloadBytes == 0 || p.Origin != "Debian/stable" || p.Arch != "amd64" {
			t.Error(p)
		}
	}
	want := map[string]string{
		"tool": "1.0 -> 2.0: a newer version", "libtool": " -> 1:5-1: tool 2.0 needs it", "libc6": "2.41-1 -> 2.41-2: a newer version",
		newKernel: " -> 6.12.117-1: linux-image-amd64 6.12.117-1 needs it", "linux-image-amd64": "6.12.94-1 -> 6.12.117-1: a newer version",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	p := res.Patch
	if !p.RebootRequired || p.Kernel != "6.12.117+deb13-amd64" || len(p.RebootReasons) != 2 || !strings.Contains(p.RebootReasons[0], "libc6") || p.DownloadBytes == 0 {
		t.Error(p)
	}
	if text := patchtest.Reasons(p.Left); !strings.Contains(text, "other stays at 1.0, below 2.0: the pool holds it") {
		t.Error(p.Left)
	}
	if err := w.Download(p); err != nil {
		t.Fatal(err)
	}
	result := w.Apply(p)
	w.Done(result)
	w.at(map[string]string{"tool": "2.0", "libtool": "1:5-1", "libc6": "2.41-2", "other": "1.0", newKernel: "6.12.117-1", oldKernel: "6.12.94-1"})
	if auto := w.apt("apt-mark", "showauto"); auto != "libtool\n"+newKernel+"\n" {
		t.Errorf("marked as not asked for: %q", auto)
	}
	before, after := w.file(result.Before), w.file(result.After)
	if !strings.Contains(before, "tool amd64 1.0 install installed ok manual\n") || !strings.Contains(after, "libtool amd64 1:5-1 install installed ok auto\n") {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if left, err := os.ReadDir(w.Path("data/patches/files")); err == nil {
		t.Error("package files are left:", left)
	}
	if res := w.Resolve(patchtest.All()); len(res.Refusals) != 0 || len(res.Patch.Packages) != 1 {
		t.Error(res)
	}
}

func TestAnUpdateOfAnOlderKernelThanTheOneThatRunsAsksForNoReboot(t *testing.T) {
	w := newWorld(t)
	w.running = "6.12.117+deb13-amd64"
	w.Install(apttest.Deb{Name: oldKernel, Version: "6.12.94-1"}, apttest.Deb{Name: newKernel, Version: "6.12.117-1"})
	w.offer(apttest.Deb{Name: oldKernel, Version: "6.12.94-2"})
	if p := w.Patch(); p.RebootRequired || p.Kernel != "" {
		t.Error(p)
	}
	w.offer(apttest.Deb{Name: oldKernel, Version: "6.12.94-2"}, apttest.Deb{Name: newKernel, Version: "6.12.117-2"})
	if p := w.Patch(); !p.RebootRequired || p.Kernel != "" {
		t.Error("the kernel that runs is built anew under its name:", p)
	}
}

func TestThePolicySaysWhichUpdatesAreChosen(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"}, apttest.Deb{Name: "other", Version: "1.0"}, apttest.Deb{Name: "kept", Version: "1.0"})
	w.apt("apt-mark", "hold", "kept")
	w.offer(apttest.Deb{Name: "other", Version: "2.0"}, apttest.Deb{Name: "kept", Version: "2.0"})
	a := w.Good()
	a.Suite, a.Packages = "stable-security", []apttest.Deb{{Name: "tool", Version: "1.1"}, {Name: "kept", Version: "1.1"}}
	w.Publish(a)
	w.Trust("stable-security")
	for name, test := range map[string]struct {
		policy *drydockv1.PatchPolicy
		want   []string
		left   string
	}{
		"security":         {&drydockv1.PatchPolicy{What: patch.Security}, []string{"tool=1.1"}, "kept stays at 1.0, below 2.0: the host's administrator holds it"},
		"all":              {&drydockv1.PatchPolicy{What: patch.All}, []string{"other=2.0", "tool=1.1"}, "kept stays"},
		"all but one":      {&drydockv1.PatchPolicy{What: patch.All, Hold: []string{"tool"}}, []string{"other=2.0"}, "tool stays at 1.0, below 1.1: the pool holds it"},
		"named":            {&drydockv1.PatchPolicy{What: patch.Named, Packages: []string{"other"}}, []string{"other=2.0"}, ""},
		"none that is due": {&drydockv1.PatchPolicy{What: patch.Named, Packages: []string{"elsewhere"}}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			res := w.Resolve(test.policy)
			var got []string
			for _, p := range res.Patch.Packages {
				got = append(got, p.Name+"="+p.To)
			}
			if diff := cmp.Diff(test.want, got); diff != "" || len(res.Refusals) != 0 || !strings.Contains(patchtest.Reasons(res.Patch.Left), test.left) {
				t.Error(diff, res.Refusals, res.Patch.Left)
			}
		})
	}
	if _, err := w.Host.Resolve(context.Background(), &drydockv1.PatchPolicy{What: "some"}, false); err == nil {
		t.Error("a policy that is not known was taken")
	}
}

func TestExactlyThePinnedVersionsAreInstalledThoughNewerOnesAppear(t *testing.T) {
	for name, when := range map[string]func(w *world, p *drydockv1.Patch) error{
		"after the download": func(w *world, p *drydockv1.Patch) error {
			err := w.Download(p)
			w.offer(apttest.Deb{Name: "tool", Version: "3.0"}, apttest.Deb{Name: "lib", Version: "3.0"})
			w.Resolve(patchtest.All()) // refreshes, as others on the host may
			w.apt("apt-get", "clean")
			return err
		},
		"beside the pinned ones": func(w *world, p *drydockv1.Patch) error {
			w.offer(apttest.Deb{Name: "tool", Version: "2.0", Depends: "lib"}, apttest.Deb{Name: "lib", Version: "2.0"},
				apttest.Deb{Name: "tool", Version: "3.0"}, apttest.Deb{Name: "lib", Version: "3.0"})
			w.Resolve(patchtest.All())
			for _, pkg := range p.Packages { // built anew, they may be other files
				for _, now := range w.offered() {
					if now.name == pkg.Name && now.version == pkg.To {
						pkg.Sha256 = now.sha256
					}
				}
			}
			return w.Download(p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Install(apttest.Deb{Name: "tool", Version: "1.0"})
			w.offer(apttest.Deb{Name: "tool", Version: "2.0", Depends: "lib"}, apttest.Deb{Name: "lib", Version: "2.0"})
			p := w.Patch()
			if err := when(w, p); err != nil {
				t.Fatal(err)
			}
			w.Done(w.Apply(p))
			w.at(map[string]string{"tool": "2.0", "lib": "2.0"})
		})
	}
}

func TestChangedConfigurationFilesAreKeptOrReplaced(t *testing.T) {
	for conffiles, want := range map[string]string{patch.Keep: "mine\n", patch.Replace: "new\n"} {
		t.Run(conffiles, func(t *testing.T) {
			w := newWorld(t)
			file := func(text string) map[string]string { return map[string]string{"etc/tool.conf": text} }
			w.Install(apttest.Deb{Name: "tool", Version: "1.0", Files: file("old\n")})
			w.Write("etc/tool.conf", "mine\n")
			w.offer(apttest.Deb{Name: "tool", Version: "2.0", Files: file("new\n")})
			p := w.Patch()
			if err := w.Download(p); err != nil {
				t.Fatal(err)
			}
			w.Done(w.ApplyWith(patch.Order{ID: "a", Patch: p, Conffiles: conffiles}, patchtest.Quiet))
			if got := w.Read("etc/tool.conf"); got != want {
				t.Errorf("it holds %q", got)
			}
		})
	}
}

func TestAPatchThatWouldRemoveAPackageIsRefused(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"}, apttest.Deb{Name: "other", Version: "1.0"})
	w.offer(apttest.Deb{Name: "tool", Version: "2.0", Conflicts: "other"})
	res := w.Resolve(patchtest.All())
	if text := patchtest.Reasons(res.Refusals); !strings.Contains(text, "tool 2.0: apt keeps it back: it would remove another package") {
		t.Error(res.Refusals)
	}
	if res := w.Resolve(&drydockv1.PatchPolicy{What: patch.All, Hold: []string{"tool"}}); len(res.Refusals) != 0 || len(res.Patch.Packages) != 0 {
		t.Error("held:", res)
	}
}

func TestAPatchThatNeedsAHeldPackageIsRefused(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "lib", Version: "1.0"}, apttest.Deb{Name: "tool", Version: "1.0", Depends: "lib"})
	w.offer(apttest.Deb{Name: "lib", Version: "2.0"}, apttest.Deb{Name: "tool", Version: "2.0", Depends: "lib (>= 2.0)"})
	res := w.Resolve(&drydockv1.PatchPolicy{What: patch.All, Hold: []string{"lib"}})
	if text := patchtest.Reasons(res.Refusals); !strings.Contains(text, "the pool holds lib, and tool 2.0 needs it") {
		t.Error(res.Refusals)
	}
	w.apt("apt-mark", "hold", "lib")
	if text := patchtest.Reasons(w.Resolve(patchtest.All()).Refusals); !strings.Contains(text, "tool 2.0: apt keeps it back") {
		t.Error(text)
	}
}

func (w *world) file(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// apt runs one of apt's programs in the world, as somebody else on the host may.
func (w *world) apt(name string, args ...string) string {
	w.t.Helper()
	w.t.Setenv("APT_CONFIG", w.Path("apt.conf"))
	defer os.Unsetenv("APT_CONFIG")
	return w.Tool(name, args...)
}

type offer struct{ name, version, sha256 string }

// offered is what the archive has.
func (w *world) offered() []offer {
	var list []offer
	for stanza := range strings.SplitSeq(w.Read("srv/stable/dists/stable/main/binary-amd64/Packages"), "\n\n") {
		var o offer
		for line := range strings.Lines(stanza) {
			switch key, value, _ := strings.Cut(strings.TrimSpace(line), ": "); key {
			case "Package":
				o.name = value
			case "Version":
				o.version = value
			case "SHA256":
				o.sha256 = value
			}
		}
		list = append(list, o)
	}
	return list
}

func TestAPatchThatWasInstalledNeedsNoFilesWhenItIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	w.Install(apttest.Deb{Name: "tool", Version: "1.0"}, apttest.Deb{Name: "other", Version: "1.0"})
	w.offer(apttest.Deb{Name: "tool", Version: "2.0"}, apttest.Deb{Name: "other", Version: "2.0"})
	p := w.Ready()
	w.Done(w.Apply(p))
	if err := w.Download(p); err != nil {
		t.Error(err)
	}
	w.Done(w.ApplyWith(patch.Order{ID: "r1/h1/again", Patch: p, Conffiles: patch.Keep}, patchtest.Quiet))
	w.Install(apttest.Deb{Name: "other", Version: "1.0"})
	if err := w.Download(p); err != nil {
		t.Fatal(err)
	}
	w.Done(w.ApplyWith(patch.Order{ID: "r2/h1", Patch: p, Conffiles: patch.Keep}, patchtest.Quiet))
	w.at(map[string]string{"tool": "2.0", "other": "2.0"})
}
