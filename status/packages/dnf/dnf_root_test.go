//go:build root

package dnf

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
)

const advisory = `<?xml version="1.0" encoding="UTF-8"?><updates>
<update from="a@example.org" status="final" type="security" version="1"><id>RHSA-2026:0001</id><title>tool</title><severity>Important</severity>
<issued date="2026-11-01 00:00:00"/><references><reference href="x" id="CVE-2026-0001" type="cve" title="x"/></references>
<pkglist><collection><package name="tool" version="1.5" release="1" epoch="0" arch="noarch" src="tool.src.rpm"><filename>tool.rpm</filename></package></collection></pkglist></update>
<update from="a@example.org" status="final" type="security" version="1"><id>RHSA-2020:0001</id><title>tool</title><severity>Important</severity>
<issued date="2020-11-01 00:00:00"/><references/>
<pkglist><collection><package name="tool" version="0.5" release="1" epoch="0" arch="noarch" src="tool.src.rpm"><filename>tool.rpm</filename></package></collection></pkglist></update>
</updates>`

func TestAnUpdateIsOfferedWithItsAdvisoriesAndHash(t *testing.T) {
	w := newWorld(t)
	file := w.rpm("tool", "2.0", "")
	w.Publish("base", advisory, "repo", file, w.rpm("tool", "1.5", ""), w.rpm("needy", "2.0", "Requires: absent"), w.rpm("kernel-core", "6.12.117", "Provides: installonlypkg(kernel)"))
	w.Trust("base")
	w.install("tool", "1.0", "")
	w.install("needy", "1.0", "")
	w.install("kernel-core", "6.12.94", "Provides: installonlypkg(kernel)")
	w.install("glibc", "2.39", "")
	w.refresh()
	inventory := w.collect()
	if e := inventory.Status.State.Error; e != "" {
		t.Error(e)
	}
	if len(inventory.Status.Updates) != 3 {
		t.Fatal(inventory.Status.Updates)
	}
	kernel, needy, tool := inventory.Status.Updates[0], inventory.Status.Updates[1], inventory.Status.Updates[2]
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	want := &drydockv1.PackageUpdate{
		Name: "tool", Arch: "noarch", From: "1.0-1", To: "2.0-1", Sources: []string{"base"}, Origin: "base", Security: true,
		Advisories: []string{"CVE-2026-0001", "RHSA-2026:0001"}, Sha256: hex.EncodeToString(sum[:]), DownloadBytes: int64(len(data)),
	}
	if diff := cmp.Diff(want.String(), tool.String()); diff != "" {
		t.Error(diff)
	}
	if len(needy.Blocked) != 1 || !strings.Contains(needy.Blocked[0].Reason, "keeps it back") {
		t.Error(needy)
	}
	if kernel.To != "6.12.117-1" || inventory.Available.GetRelease() != "6.12.117-1.noarch" || inventory.Kernels[0].GetRelease() != "6.12.94-1.noarch" {
		t.Error(kernel, inventory.Available, inventory.Kernels)
	}
	if len(inventory.Core) != 1 || inventory.Core[0].Name != "glibc" || time.Since(inventory.Core[0].At) > time.Hour {
		t.Error(inventory.Core)
	}
	if s := inventory.Status.Sources[0]; len(s.Keys) != 1 || len(s.Problems) != 0 {
		t.Error(s)
	}
}

func TestNothingIsInstalledFromARepositoryThatCannotBeBelieved(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  func(w *world)
		fault  drydockv1.MetadataFault
		reason string
	}{
		"that dnf is told not to verify": {func(w *world) {
			w.Configure("base", "repo_gpgcheck=0\ngpgcheck=0")
		}, drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, "repo_gpgcheck=0"},
		"whose signature is gone": {func(w *world) {
			os.Remove(w.Cached("base", "repomd.xml.asc"))
		}, drydockv1.MetadataFault_METADATA_FAULT_MISSING, "turned down"}, // dnf itself removes what it cannot verify
		"of another key": {func(w *world) {
			w.Key("stranger")
			w.Configure("base", "repo_gpgcheck=1\ngpgcheck=0\ngpgkey=file://"+w.Path("stranger.asc"))
		}, drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE, "NO_PUBKEY"},
		"whose repomd.xml was changed here": {func(w *world) {
			w.Replace(w.Cached("base", "repomd.xml"), "<revision>", "<revision>1")
		}, drydockv1.MetadataFault_METADATA_FAULT_MISSING, "turned down"},
		"whose list of packages was changed here": {func(w *world) {
			w.Replace(w.Cached("base", "*primary.xml.gz"), "", "x")
		}, drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, "cannot be read"},
		"whose list of packages was exchanged here": {func(w *world) {
			file := w.Cached("base", "*primary.xml.gz")
			w.Publish("other", "", "repo", w.rpm("tool", "2.0", ""), w.rpm("evil", "2.0", ""))
			w.Tool("sh", "-c", "cat "+w.Path("srv/other/repodata")+"/*primary.xml.gz > "+file)
		}, drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, "is not the one that was signed"},
		"that expired": {func(w *world) { w.Now = w.Now.Add(49 * time.Hour) }, drydockv1.MetadataFault_METADATA_FAULT_EXPIRED, "metadata_expire"},
		"that never expires but was not compared for long": {func(w *world) {
			w.Configure("base", "metadata_expire=never\nrepo_gpgcheck=1\ngpgcheck=0\ngpgkey=file://"+w.Path("repo.asc"))
			w.Now = w.Now.Add(8 * 24 * time.Hour)
		}, drydockv1.MetadataFault_METADATA_FAULT_STALE, "last compared"},
		"from the future": {func(w *world) { w.Now = w.Now.Add(-time.Hour) }, drydockv1.MetadataFault_METADATA_FAULT_NOT_YET_VALID, "clock"},
		"that was put back to an older state": {func(w *world) {
			w.Publish("base", "", "", w.rpm("tool", "2.0", ""))
			w.Tool("sh", "-c", "sed -i 's/<timestamp>[0-9]*/<timestamp>1000/' "+w.Path("srv/base/repodata/repomd.xml"))
			w.Sign("base", "repo")
			w.refresh()
		}, drydockv1.MetadataFault_METADATA_FAULT_ROLLED_BACK, "was seen before"},
		"that vanished": {func(w *world) {
			os.RemoveAll(w.Path("srv/base"))
			w.refresh()
		}, drydockv1.MetadataFault_METADATA_FAULT_REFRESH_FAILED, "the last refresh failed"},
		"that was changed on the way": {func(w *world) {
			w.Replace(w.Path("srv/base/repodata/repomd.xml"), "<revision>", "<revision>1")
			w.refresh()
		}, drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE, "the last refresh failed"},
		"that was signed by another on the way": {func(w *world) {
			w.Key("stranger")
			w.Sign("base", "stranger")
			w.refresh()
		}, drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE, "the last refresh failed"},
		"whose signature vanished": {func(w *world) {
			os.Remove(w.Path("srv/base/repodata/repomd.xml.asc"))
			w.refresh()
		}, drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, "the last refresh failed"},
		"that was never fetched": {func(w *world) {
			os.RemoveAll(w.Root + "/var/cache/dnf")
		}, drydockv1.MetadataFault_METADATA_FAULT_MISSING, "never fetched"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Publish("base", "", "repo", w.rpm("tool", "2.0", ""))
			w.Trust("base")
			w.install("tool", "1.0", "")
			w.refresh()
			if u := only(t, w.collect()); len(u.Blocked) != 0 {
				t.Fatal("blocked before anything is broken:", u)
			}
			test.spoil(w)
			inventory := w.collect()
			problems := inventory.Status.Sources[0].Problems
			if len(problems) == 0 || problems[0].Fault != test.fault || !strings.Contains(problems[0].Reason, test.reason) || problems[0].Remedy == "" {
				t.Errorf("problems: %v", problems)
			}
			if test.fault == drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE && !strings.Contains(problems[0].Remedy, "gpgkey in ") {
				t.Errorf("the remedy says nothing of keys: %v", problems)
			}
			for _, u := range inventory.Status.Updates {
				if len(u.Blocked) == 0 || u.Blocked[0].Remedy == "" {
					t.Errorf("not blocked: %v", u)
				}
			}
		})
	}
}

// The versions of updates and advisories are compared by dnf's own library; this is about the names that are put together here.
func TestAnEpochIsPartOfAVersionUnlessItIsNone(t *testing.T) {
	w := newWorld(t)
	w.Publish("base", "", "repo", w.rpm("tool", "1.0", "Epoch: 2"))
	w.Trust("base")
	w.install("tool", "2.0", "Epoch: 0")
	w.refresh()
	if u := only(t, w.collect()); u.From != "2.0-1" || u.To != "2:1.0-1" || len(u.Blocked) != 0 {
		t.Error(u)
	}
}
