//go:build root

package apt

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnUpdateFromASignedArchiveIsOfferedWithAllThatIsKnownOfIt(t *testing.T) {
	for name, change := range map[string]func(*archive){
		"clear-signed":                      func(*archive) {},
		"with a signature of its own":       func(a *archive) { a.Detached = true },
		"that does not say when it expires": func(a *archive) { a.Until = time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.Good()
			change(&a)
			w.Publish(a)
			w.Trust("stable")
			w.Have("tool 1.0-1", "other 1.0")
			w.refresh()
			status := w.collect().Status
			if len(status.Updates) != 1 || len(status.Sources) != 1 || status.State.Error != "" || len(status.Problems) != 0 {
				t.Fatal(status)
			}
			u, s := status.Updates[0], status.Sources[0]
			file, err := os.ReadFile(w.Path("srv/stable/pool/tool_2.0-1_amd64.deb"))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(file)
			want := []string{"tool", "amd64", "1.0-1", "2.0-1", "Debian/stable", hex.EncodeToString(sum[:])}
			if diff := cmp.Diff(want, []string{u.Name, u.Arch, u.From, u.To, u.Origin, u.Sha256}); diff != "" {
				t.Error(diff)
			}
			if u.Security || len(u.Blocked) != 0 || u.DownloadBytes != int64(len(file)) {
				t.Error(u)
			}
			if len(s.Problems) != 0 || len(s.Keys) == 0 || !s.Date.AsTime().Equal(a.Date) || s.Confirmed.AsTime().Before(w.Now) {
				t.Error(s)
			}
		})
	}
}

func TestAnArchiveOfSecurityUpdatesIsKnownBySuiteOrLabel(t *testing.T) {
	w := newWorld(t)
	w.Publish(w.Good())
	a := w.Good()
	a.Suite, a.Label, a.Packages = "stable-security", "Debian", []deb{{Name: "tool", Version: "1.5-1"}}
	w.Publish(a)
	a.Suite, a.Label, a.Packages = "lab", "Lab-Security", []deb{{Name: "other", Version: "1.1"}}
	w.Publish(a)
	w.Trust("stable")
	w.Trust("stable-security")
	w.Trust("lab")
	w.Have("tool 1.0-1", "other 1.0")
	w.refresh()
	for _, u := range w.collect().Status.Updates {
		if !u.Security {
			t.Errorf("%s %s holds a fix, from %v", u.Name, u.To, u.Sources)
		}
	}
	w.Have("tool 1.6-1", "other 1.1")
	if u := only(t, w.collect()); u.Security {
		t.Errorf("the fix was in 1.5-1 and is installed: %v", u)
	}
}

func TestHoldsPinsAndWhatIsKeptBackAreTheHostsOwn(t *testing.T) {
	w := newWorld(t)
	a := w.Good()
	a.Packages = []deb{
		{Name: "tool", Version: "2.0-1"}, {Name: "needy", Version: "2.0", Depends: "absent"}, {Name: "pinned", Version: "2.0"},
		{Name: "linux-image-amd64", Version: "6.12.117-1", Depends: "linux-image-6.12.117+deb13-amd64"},
		{Name: "linux-image-6.12.117+deb13-amd64", Version: "6.12.117-1"},
	}
	w.Publish(a)
	w.Trust("stable")
	w.Write("etc/apt/preferences.d/pin", "Package: pinned\nPin: version 1.0\nPin-Priority: 1001\n")
	w.Have("tool 1.0-1 hold", "needy 1.0", "pinned 1.0", "linux-image-amd64 6.12.94-1", "linux-image-6.12.94+deb13-amd64 6.12.94-1", "libc6 2.41-12")
	w.refresh()
	inventory := w.collect()
	got := map[string]string{}
	for _, u := range inventory.Status.Updates {
		words := u.From + " -> " + u.To
		if u.Held {
			words += " held"
		}
		for _, b := range u.Blocked {
			words += " blocked: " + b.Reason[:len("apt keeps it back")]
		}
		got[u.Name] = words
	}
	want := map[string]string{
		"tool": "1.0-1 -> 2.0-1 held", "needy": "1.0 -> 2.0 blocked: apt keeps it back",
		"linux-image-amd64": "6.12.94-1 -> 6.12.117-1", "linux-image-6.12.117+deb13-amd64": " -> 6.12.117-1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(inventory.Kernels) != 1 || inventory.Kernels[0].Release != "6.12.94+deb13-amd64" || inventory.Available.GetRelease() != "6.12.117+deb13-amd64" {
		t.Error(inventory.Kernels, inventory.Available)
	}
	if len(inventory.Core) != 1 || inventory.Core[0].Name != "libc6" || time.Since(inventory.Core[0].At) > time.Hour {
		t.Error(inventory.Core)
	}
}

func TestAdvisoriesComeFromTheTrackerTheListAndTheChangelog(t *testing.T) {
	w := newWorld(t)
	a := w.Good()
	a.Packages = []deb{{Name: "tool", Version: "2.0-1", Source: "toolsrc (1:2.0-1)", Changelog: "toolsrc (1:2.0-1) stable; urgency=high\n\n" +
		"  * Fix CVE-2026-0003. Closes: DSA-6001-1\n\n -- a\n\ntoolsrc (1:1.0-1) stable; urgency=low\n\n  * Fix CVE-2020-0001\n\n -- a\n"}}
	w.Publish(a)
	w.Trust("stable")
	w.Have("tool 1.0-1")
	w.Write("var/lib/dpkg/status", strings.Replace(w.Read("var/lib/dpkg/status"), "Version:", "Source: toolsrc (1:1.0-1)\nVersion:", 1))
	w.refresh()
	if u := only(t, w.collect()); u.Security || len(u.Advisories) != 0 {
		t.Fatal(u)
	}
	w.Write("advisories/tracker.json", `{"elsewhere": {"CVE-2026-0009": {"releases": {}}}, "toolsrc": {
		"CVE-2026-0001": {"releases": {"stable": {"status": "resolved", "fixed_version": "1:1.5-1"}}},
		"CVE-2026-0002": {"releases": {"other": {"status": "resolved", "fixed_version": "1:1.5-1"}}},
		"CVE-2020-0001": {"releases": {"stable": {"status": "resolved", "fixed_version": "1:1.0-1"}}},
		"CVE-2026-0004": {"releases": {"stable": {"status": "open"}}}}}`)
	w.Write("advisories/dsa-list", "[20 Nov 2026] DSA-6000-1 toolsrc - security update\n\t{CVE-2026-0001}\n\t[stable] - toolsrc 1:1.5-1\n"+
		"[20 Nov 2019] DSA-4000-1 toolsrc - security update\n\t{CVE-2019-0001}\n\t[stable] - toolsrc 1:1.0-1\n")
	u := only(t, w.collect())
	if diff := cmp.Diff([]string{"CVE-2026-0001", "DSA-6000-1"}, u.Advisories); diff != "" || !u.Security {
		t.Error(diff)
	}
	file := w.Read("srv/stable/pool/tool_2.0-1_amd64.deb")
	w.Write("var/cache/apt/archives/tool_2.0-1_amd64.deb", file)
	u = only(t, w.collect())
	if diff := cmp.Diff([]string{"CVE-2026-0001", "CVE-2026-0003", "DSA-6000-1", "DSA-6001-1"}, u.Advisories); diff != "" {
		t.Error(diff)
	}
	w.Write("advisories/tracker.json", "[]")
	w.Write("var/cache/apt/archives/tool_2.0-1_amd64.deb", file[:len(file)-1])
	inventory := w.collect()
	if u = only(t, inventory); len(u.Advisories) != 2 || !strings.Contains(inventory.Status.State.Error, "tracker.json") {
		t.Error("a file that is not the verified one, and a tracker that cannot be read:", u, inventory.Status.State)
	}
}

func TestAnInterruptedDpkgIsAProblemWithARemedy(t *testing.T) {
	w := newWorld(t)
	w.Have("tool 1.0-1")
	w.Write("var/lib/dpkg/status", strings.Replace(w.Read("var/lib/dpkg/status"), "install ok installed", "install ok half-configured", 1))
	w.Write("var/lib/dpkg/updates/0001", "")
	problems := w.collect().Status.Problems
	if len(problems) != 2 || !strings.Contains(problems[0].Reason, "tool (half-configured)") || !strings.Contains(problems[1].Remedy, "dpkg --configure -a") {
		t.Error(problems)
	}
}

func TestAKeyInsideTheEntryVerifiesToo(t *testing.T) {
	w := newWorld(t)
	w.Publish(w.Good())
	key := strings.ReplaceAll(strings.TrimSpace(w.Read("archive.asc")), "\n\n", "\n.\n")
	w.Write("etc/apt/sources.list.d/lab.sources", "# the lab's\n\nTypes: deb\nURIs: http://127.0.0.1:9/none\nSuites: none\nComponents: main\nEnabled: no\n\n"+
		"Types: deb\nURIs: "+w.URL+"/stable\nSuites: stable\nComponents: main\nSigned-By:\n "+strings.ReplaceAll(key, "\n", "\n ")+"\n")
	w.Have("tool 1.0-1")
	w.refresh()
	if u := only(t, w.collect()); len(u.Blocked) != 0 {
		t.Error(u.Blocked)
	}
}

func TestTheSameFileInASoundSourceIsEnoughAndAnotherIsNot(t *testing.T) {
	w := newWorld(t)
	w.Publish(w.Good())
	a := w.Good()
	a.Suite, a.Until = "old", w.Now.Add(-time.Minute)
	w.Publish(a)
	w.Trust("stable")
	w.Source("old", "check-valid-until=no signed-by="+w.Path("archive.asc"))
	w.Have("tool 1.0-1")
	w.refresh()
	u := only(t, w.collect())
	if len(u.Sources) != 2 {
		t.Fatal(u)
	}
	sums := w.Tool("sh", "-c", "sha256sum "+w.Path("srv")+"/*/pool/*.deb | cut -d' ' -f1 | sort -u | wc -l")
	if same := strings.TrimSpace(sums) == "1"; same != (len(u.Blocked) == 0) {
		t.Errorf("same file: %v, blocked: %v", same, u.Blocked)
	}
	a.Packages[0].Changelog = "tool (2.0-1) old; urgency=low\n"
	w.Publish(a)
	w.refresh()
	if u = only(t, w.collect()); len(u.Blocked) != 1 || !strings.Contains(u.Blocked[0].Reason, "expired") || u.Origin != "Debian/stable" {
		t.Error(u)
	}
}
