//go:build root

package dnf_test

import (
	"os"
	"strings"
	"testing"

	"drydock/internal/dnftest"
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
	res := w.resolve(&drydockv1.PatchPolicy{What: patch.All, Hold: []string{"other"}})
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
	if text := reasons(p.Left); !strings.Contains(text, "other stays at 1.0-1, below 2.0-1: the pool holds it") {
		t.Error(p.Left)
	}
	if err := w.download(p); err != nil {
		t.Fatal(err)
	}
	result := w.apply(p)
	w.done(result)
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
	if res := w.resolve(all); len(res.Refusals) != 0 || len(res.Patch.Packages) != 1 {
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
