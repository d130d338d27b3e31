//go:build root

package dnf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/internal/dnftest"
	"drydock/internal/patchtest"
	"drydock/patch"

	drydockv1 "drydock/api/drydock/v1"

	"github.com/google/go-cmp/cmp"
)

const multi = "Provides: installonlypkg(kernel)"

func TestAPatchIsAnExactListWithAllThatItPullsIn(t *testing.T) {
	w := newWorld(t)
	w.Shell()
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"}, dnftest.RPM{Name: "glibc", Version: "2.39"}, dnftest.RPM{Name: "other", Version: "1.0"},
		dnftest.RPM{Name: "kernel-core", Version: "6.12.94", More: multi})
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0", More: "Requires: libtool", Files: map[string]string{"usr/bin/tool": "2.0"}},
		dnftest.RPM{Name: "libtool", Version: "5", More: "Epoch: 1"}, dnftest.RPM{Name: "glibc", Version: "2.40"},
		dnftest.RPM{Name: "other", Version: "2.0"}, dnftest.RPM{Name: "kernel-core", Version: "6.12.117", More: multi})
	res := w.Resolve(&drydockv1.PatchPolicy{What: patch.All, Hold: []string{"other"}})
	if len(res.Refusals) != 0 {
		t.Fatal(res.Refusals)
	}
	got := map[string]string{}
	for _, p := range res.Patch.Packages {
		got[p.Name] = p.From + " -> " + p.To + ": " + p.Reason
		if len(p.Sha256) != 64 || p.DownloadBytes == 0 || p.Origin != "base" || p.Arch != "noarch" {
			t.Error(p)
		}
	}
	want := map[string]string{
		"tool": "1.0-1 -> 2.0-1: a newer version", "libtool": " -> 1:5-1: tool 2.0-1 needs it", "glibc": "2.39-1 -> 2.40-1: a newer version",
		"kernel-core": "6.12.94-1 -> 6.12.117-1: a newer version",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	p := res.Patch
	if !p.RebootRequired || p.Kernel != "6.12.117-1.noarch" || len(p.RebootReasons) != 2 || !strings.Contains(p.RebootReasons[0], "glibc") || p.DownloadBytes == 0 {
		t.Error(p)
	}
	if text := patchtest.Reasons(p.Left); !strings.Contains(text, "other stays at 1.0-1, below 2.0-1: the pool holds it") {
		t.Error(p.Left)
	}
	if err := w.Download(p); err != nil {
		t.Fatal(err)
	}
	result := w.Apply(p)
	w.Done(result)
	w.at(map[string]string{"tool": "2.0", "libtool": "5", "glibc": "2.40", "other": "1.0", "kernel-core": "6.12.94 6.12.117"})
	if text := w.Read("root/usr/bin/tool"); text != "2.0" {
		t.Errorf("its file holds %q", text)
	}
	before, after := read(t, result.Before), read(t, result.After)
	if !strings.Contains(before, "tool noarch 1.0-1 ") || !strings.Contains(after, "libtool noarch 1:5-1 dependency installed\n") || strings.Contains(after, "tool noarch 1.0-1 ") {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if w.exists("data/patches/files") {
		t.Error("package files are left")
	}
	if res := w.Resolve(patchtest.All()); len(res.Refusals) != 0 || len(res.Patch.Packages) != 1 {
		t.Error(res)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const fix = `<?xml version="1.0" encoding="UTF-8"?><updates>
<update from="a@example.org" status="final" type="security" version="1"><id>RHSA-2026:0001</id><title>tool</title><severity>Important</severity>
<issued date="2026-11-01 00:00:00"/><references/>
<pkglist><collection><package name="tool" version="1.1" release="1" epoch="0" arch="noarch" src="tool.src.rpm"><filename>tool.rpm</filename></package></collection></pkglist></update>
</updates>`

func TestThePolicySaysWhichUpdatesAreChosen(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"tool", "other", "kept"} {
		w.Have(dnftest.RPM{Name: name, Version: "1.0"})
	}
	w.Publish("base", fix, "repo", w.Build(dnftest.RPM{Name: "tool", Version: "1.1"}), w.Build(dnftest.RPM{Name: "other", Version: "2.0"}), w.Build(dnftest.RPM{Name: "kept", Version: "2.0"}))
	w.Trust("base")
	w.Write("root/etc/dnf/plugins/versionlock.list", "# by an operator\nkept-0:1.0-1.*\n")
	for name, test := range map[string]struct {
		policy *drydockv1.PatchPolicy
		want   []string
		left   string
	}{
		"security":         {&drydockv1.PatchPolicy{What: patch.Security}, []string{"tool=1.1-1"}, ""},
		"all":              {patchtest.All(), []string{"other=2.0-1", "tool=1.1-1"}, "kept stays at 1.0-1, below 2.0-1: the host's administrator holds it"},
		"all but one":      {&drydockv1.PatchPolicy{What: patch.All, Hold: []string{"tool"}}, []string{"other=2.0-1"}, "tool stays at 1.0-1, below 1.1-1: the pool holds it"},
		"named":            {&drydockv1.PatchPolicy{What: patch.Named, Packages: []string{"other"}}, []string{"other=2.0-1"}, ""},
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
}

func TestAPatchThatNeedsAHeldPackageOrTheRemovalOfOneIsRefused(t *testing.T) {
	w := newWorld(t)
	w.Have(dnftest.RPM{Name: "lib", Version: "1.0"}, dnftest.RPM{Name: "tool", Version: "1.0", More: "Requires: lib"}, dnftest.RPM{Name: "old", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "lib", Version: "2.0"}, dnftest.RPM{Name: "tool", Version: "2.0", More: "Requires: lib >= 2.0"})
	res := w.Resolve(&drydockv1.PatchPolicy{What: patch.All, Hold: []string{"lib"}})
	if text := patchtest.Reasons(res.Refusals); !strings.Contains(text, "the pool holds lib, and tool 2.0-1 needs it") {
		t.Error(res.Refusals)
	}
	w.Write("root/etc/dnf/plugins/versionlock.list", "lib-1.0-1.noarch\n")
	res = w.Resolve(patchtest.All())
	if text := patchtest.Reasons(res.Refusals); !strings.Contains(text, "lib is held by the host's administrator, and tool 2.0-1 needs it") || !strings.Contains(res.Refusals[0].Remedy, "versionlock delete lib") {
		t.Error(res.Refusals)
	}
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0", More: "Obsoletes: old"})
	if text := patchtest.Reasons(w.Resolve(patchtest.All()).Refusals); !strings.Contains(text, "dnf would remove old-1.0-1.noarch, and a patch removes nothing") {
		t.Error(text)
	}
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0", More: "Conflicts: old"})
	if text := patchtest.Reasons(w.Resolve(patchtest.All()).Refusals); !strings.Contains(text, "tool 2.0-1: dnf keeps it back") {
		t.Error(text)
	}
}

func TestExactlyThePinnedVersionsAreInstalledThoughNewerOnesAppear(t *testing.T) {
	w := newWorld(t)
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0", More: "Requires: lib"}, dnftest.RPM{Name: "lib", Version: "2.0"})
	p := w.Ready()
	w.offer(dnftest.RPM{Name: "tool", Version: "3.0"}, dnftest.RPM{Name: "lib", Version: "3.0"})
	w.Resolve(patchtest.All()) // refreshes, as others on the host may
	w.Done(w.Apply(p))
	w.at(map[string]string{"tool": "2.0", "lib": "2.0"})
}

func TestChangedConfigurationFilesAreKeptOrReplaced(t *testing.T) {
	for kind, directive := range map[string]string{"of those that are replaced": "%config", "of those that are not": "%config(noreplace)"} {
		for conffiles, want := range map[string][2]string{patch.Keep: {"mine\n", ".rpmnew"}, patch.Replace: {"new\n", ".rpmsave"}} {
			t.Run(conffiles+" "+kind, func(t *testing.T) {
				w := newWorld(t)
				tool := func(version, text string) dnftest.RPM {
					return dnftest.RPM{Name: "tool", Version: version, Directive: directive, Files: map[string]string{"etc/tool.conf": text, "etc/same.conf": text}}
				}
				w.Install(tool("1.0", "old\n"))
				w.Write("root/etc/tool.conf", "mine\n")
				w.Write("root/etc/tool.conf.rpmold", "of no package\n")
				w.offer(tool("2.0", "new\n"))
				result := w.ApplyWith(patch.Order{ID: "a", Patch: w.Ready(), Conffiles: conffiles}, patchtest.Quiet)
				w.Done(result)
				other := map[string]string{"mine\n": "new\n", "new\n": "mine\n"}[want[0]]
				if got, beside := w.Read("root/etc/tool.conf"), w.Read("root/etc/tool.conf"+want[1]); got != want[0] || beside != other {
					t.Errorf("it holds %q, and the one beside it %q", got, beside)
				}
				found, err := filepath.Glob(w.Path("root/etc/*.rpm[ns]*"))
				if err != nil || len(found) != 1 || w.Read("root/etc/same.conf") != "new\n" {
					t.Error(found, err)
				}
				if !strings.Contains(result.Log, "etc/tool.conf"+want[1]) || strings.Contains(result.Log, "etc/same.conf") {
					t.Error("the log does not say so:", result.Log)
				}
			})
		}
	}
}

func TestAPatchThatWasInstalledNeedsNoFilesWhenItIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	w.Install(dnftest.RPM{Name: "tool", Version: "1.0"})
	w.offer(dnftest.RPM{Name: "tool", Version: "2.0"})
	p := w.Ready()
	w.Done(w.Apply(p))
	if err := os.RemoveAll(w.Path("srv/base")); err != nil {
		t.Fatal(err)
	}
	if err := w.Download(p); err != nil {
		t.Error(err)
	}
	w.Done(w.ApplyWith(patch.Order{ID: "r1/h1/again", Patch: p, Conffiles: patch.Keep}, patchtest.Quiet))
}
