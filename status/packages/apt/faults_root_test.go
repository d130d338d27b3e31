//go:build root

package apt

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

const (
	unsigned      = drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED
	badSignature  = drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE
	expired       = drydockv1.MetadataFault_METADATA_FAULT_EXPIRED
	notYetValid   = drydockv1.MetadataFault_METADATA_FAULT_NOT_YET_VALID
	tampered      = drydockv1.MetadataFault_METADATA_FAULT_TAMPERED
	rolledBack    = drydockv1.MetadataFault_METADATA_FAULT_ROLLED_BACK
	missing       = drydockv1.MetadataFault_METADATA_FAULT_MISSING
	stale         = drydockv1.MetadataFault_METADATA_FAULT_STALE
	refreshFailed = drydockv1.MetadataFault_METADATA_FAULT_REFRESH_FAILED
)

// listFile is a file of the good archive in apt's lists.
func (w *world) listFile(end string) string {
	w.t.Helper()
	found, err := filepath.Glob(w.Path("var/lib/apt/lists/*" + end))
	if err != nil || len(found) != 1 {
		w.t.Fatalf("files in apt's lists that end with %s: %v, %v", end, found, err)
	}
	rel, err := filepath.Rel(w.Root, found[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return rel
}

func (w *world) replace(file, from, to string) {
	w.t.Helper()
	text := w.Read(file)
	if !strings.Contains(text, from) {
		w.t.Fatalf("%s lacks %q", file, from)
	}
	w.Write(file, strings.Replace(text, from, to, 1))
}

// aptUpdate is what somebody else on the host may do, with apt's own settings.
func (w *world) aptUpdate(options ...string) {
	w.t.Helper()
	cmd := exec.Command("apt-get", append([]string{"update"}, options...)...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+w.Path("apt.conf"), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("apt-get update: %v\n%s", err, out)
	}
}

func TestNothingIsInstalledFromMetadataThatCannotBeBelieved(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  func(w *world)
		fault  drydockv1.MetadataFault
		reason string
	}{
		"expired, and apt told not to look": {func(w *world) {
			a := w.Good()
			a.Until = w.Now.Add(-time.Minute)
			w.Publish(a)
			w.Source("stable", "check-valid-until=no signed-by="+w.Path("archive.asc"))
			w.refresh()
		}, expired, "it expired on "},
		"expired since it was fetched": {func(w *world) { w.Now = w.Now.Add(8 * 24 * time.Hour) }, expired, "it expired on "},
		"from the future":              {func(w *world) { w.Now = w.Now.Add(-2 * time.Hour) }, notYetValid, "the host's clock says"},
		"unsigned, with trusted=yes": {func(w *world) {
			a := w.Good()
			a.Key = ""
			w.Publish(a)
			w.forget() // apt lets no source go from signed to unsigned
			w.Source("stable", "trusted=yes")
			w.aptUpdate()
		}, unsigned, "trusted=yes"},
		"unsigned, with allow-insecure=yes": {func(w *world) {
			a := w.Good()
			a.Key = ""
			w.Publish(a)
			w.forget() // apt lets no source go from signed to unsigned
			w.Source("stable", "allow-insecure=yes")
			w.aptUpdate()
		}, unsigned, "allow-insecure=yes"},
		"unsigned, with apt told to allow that everywhere": {func(w *world) {
			a := w.Good()
			a.Key = ""
			w.Publish(a)
			w.forget() // apt lets no source go from signed to unsigned
			w.Source("stable", "")
			w.aptUpdate("-o", "Acquire::AllowInsecureRepositories=true")
		}, unsigned, "neither InRelease nor Release.gpg"},
		"without a Release file": {func(w *world) {
			os.Remove(w.Path("srv/stable/dists/stable/InRelease"))
			w.forget()
			w.Source("stable", "trusted=yes")
			w.aptUpdate()
		}, unsigned, "trusted=yes"},
		"signed by a key that is not the source's": {func(w *world) {
			w.Key("stranger")
			w.Source("stable", "signed-by="+w.Path("stranger.asc"))
		}, badSignature, "NO_PUBKEY"},
		"with a Release file that was changed here": {func(w *world) {
			w.replace(w.listFile("InRelease"), "Label: Debian", "Label: Drebian")
		}, badSignature, "BADSIG"},
		"with an index that was changed here": {func(w *world) {
			w.replace(w.listFile("Packages"), "Size: ", "Size: 1")
		}, tampered, "is not the one that was signed"},
		"with an index that was removed here": {func(w *world) { os.Remove(w.Path(w.listFile("Packages"))) }, missing, "does not lie here"},
		"with an index that was changed on the way": {func(w *world) {
			a := w.Good()
			a.Date, a.Packages = w.Now, []deb{{Name: "tool", Version: "3.0-1"}}
			w.Publish(a)
			dir := "srv/stable/dists/stable/main/binary-amd64/"
			os.Remove(w.Path(dir + "Packages.xz"))
			w.replace(dir+"Packages", "Size: ", "Size: 1")
			w.refresh()
		}, refreshFailed, "Failed to fetch"},
		"changed on the way, signature and all": {func(w *world) {
			const file = "srv/stable/dists/stable/InRelease"
			w.replace(file, "Label: Debian", "Label: Drebian")
			w.Touch(file)
			w.refresh()
		}, badSignature, "the last refresh failed"},
		"of an archive that vanished": {func(w *world) {
			os.RemoveAll(w.Path("srv/stable"))
			w.refresh()
		}, refreshFailed, "no longer has a Release file"},
		"put back to an older state": {func(w *world) {
			a := w.Good()
			a.Date = w.Now.Add(-2 * time.Hour)
			w.Publish(a)
			w.forget()
			w.refresh()
		}, rolledBack, "was seen before"},
		"not compared with the archive for long": {func(w *world) {
			a := w.Good()
			a.Until, a.Date = time.Time{}, w.Now
			w.Publish(a)
			w.refresh()
			w.Now = w.Now.Add(7*24*time.Hour + time.Minute)
		}, stale, "last compared"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Publish(w.Good())
			w.Trust("stable")
			w.Have("tool 1.0-1")
			w.refresh()
			if u := only(t, w.collect()); len(u.Blocked) != 0 {
				t.Fatal("blocked before anything is broken:", u)
			}
			w.Sources = nil
			test.spoil(w)
			inventory := w.collect()
			s := inventory.Status.Sources[0]
			if len(s.Problems) == 0 || s.Problems[0].Fault != test.fault || !strings.Contains(s.Problems[0].Reason, test.reason) || s.Problems[0].Remedy == "" {
				t.Errorf("problems: %v", s.Problems)
			}
			for _, u := range inventory.Status.Updates {
				if len(u.Blocked) == 0 || u.Blocked[0].Reason == "" || u.Blocked[0].Remedy == "" {
					t.Errorf("not blocked: %v", u)
				}
			}
		})
	}
}

// forget removes what apt has fetched, as an operator may.
func (w *world) forget() {
	found, err := filepath.Glob(w.Path("var/lib/apt/lists/*_*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, file := range found {
		if err := os.Remove(file); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestWhatAptTurnsDownHasItsOwnRemedy(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  func(w *world, a *archive)
		fault  drydockv1.MetadataFault
		remedy string
	}{
		"signed by a stranger": {func(w *world, a *archive) {
			w.Key("stranger")
			a.Key = "stranger"
		}, badSignature, "see that the archive is the right one and that signed-by in "},
		"unsigned":  {func(_ *world, a *archive) { a.Key = "" }, unsigned, "have the archive signed"},
		"expired":   {func(w *world, a *archive) { a.Until = w.Now.Add(-time.Minute) }, expired, "ask its keeper"},
		"too early": {func(w *world, a *archive) { a.Date = w.Now.Add(24 * time.Hour) }, notYetValid, "clock"},
		"renamed":   {func(_ *world, a *archive) { a.Label = "Debris" }, refreshFailed, "--allow-releaseinfo-change"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.Good()
			w.Publish(a)
			w.Trust("stable")
			w.Have("tool 1.0-1")
			w.refresh()
			test.spoil(w, &a)
			w.Publish(a)
			w.refresh()
			problems := w.collect().Status.Sources[0].Problems
			if len(problems) == 0 || problems[0].Fault != test.fault || !strings.HasPrefix(problems[0].Reason, "the last refresh failed: ") ||
				!strings.Contains(problems[0].Remedy, test.remedy) {
				t.Errorf("problems: %v", problems)
			}
		})
	}
}

func TestListsThatAptCannotReadAreAnErrorThatNamesTheFile(t *testing.T) {
	w := newWorld(t)
	w.Publish(w.Good())
	w.Trust("stable")
	w.Have("tool 1.0-1")
	w.refresh()
	file := w.listFile("InRelease")
	text := w.Read(file)
	for _, around := range []string{"Suite: stable\n\n" + text, text + "\nSuite: stable\n"} {
		w.Write(file, around)
		if _, err := w.apt.Collect(context.Background()); err == nil || !strings.Contains(err.Error(), file) {
			t.Error(err)
		}
	}
}

func TestARefreshWaitsForOthersThatFetchLists(t *testing.T) {
	w := newWorld(t)
	w.Publish(w.Good())
	w.Trust("stable")
	w.Have("tool 1.0-1")
	release := w.Lock("var/lib/apt/lists/lock")
	done := make(chan error, 1)
	go func() { done <- w.apt.Refresh(context.Background()) }()
	select {
	case err := <-done:
		t.Fatal("it did not wait:", err)
	case <-time.After(2 * time.Second):
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if u := only(t, w.collect()); len(u.Blocked) != 0 {
		t.Error(u)
	}
}

func TestASourceThatWasNeverFetchedIsMissing(t *testing.T) {
	w := newWorld(t)
	w.Publish(w.Good())
	w.Trust("stable")
	w.Have("tool 1.0-1")
	status := w.collect().Status
	if len(status.Sources) != 1 || len(status.Sources[0].Problems) != 1 || status.Sources[0].Problems[0].Fault != missing {
		t.Error(status.Sources)
	}
}

func TestASourceIsSoundAgainOnceItsFaultIsGone(t *testing.T) {
	w := newWorld(t)
	w.Publish(w.Good())
	w.Trust("stable")
	w.Have("tool 1.0-1")
	if err := os.Rename(w.Path("srv/stable"), w.Path("srv/away")); err != nil {
		t.Fatal(err)
	}
	if err := w.apt.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if p := w.collect().Status.Sources[0].Problems; len(p) != 2 || p[1].Fault != refreshFailed && p[0].Fault != refreshFailed {
		t.Fatal(p)
	}
	if err := os.Rename(w.Path("srv/away"), w.Path("srv/stable")); err != nil {
		t.Fatal(err)
	}
	w.aptUpdate() // by whomever
	if u := only(t, w.collect()); len(u.Blocked) != 0 {
		t.Error(u)
	}
	w.refresh()
	if u := only(t, w.collect()); len(u.Blocked) != 0 {
		t.Error(u)
	}
}
