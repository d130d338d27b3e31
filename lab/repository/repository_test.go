package repository

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/google/go-cmp/cmp"
)

// build makes a package file.
func build(t *testing.T, dir, name, version string) string {
	t.Helper()
	tree := t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: a <a@example.org>\nDescription: %[1]s\n", name, version)
	for path, text := range map[string]string{"DEBIAN/control": control, "usr/share/tool/text": "old\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, name+"_"+version+"_amd64.deb")
	if err := dpkgDeb(t.Context(), "--root-owner-group", "--build", tree, deb); err != nil {
		t.Fatal(err)
	}
	return deb
}

func newArchive(t *testing.T) Archive {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	key, err := NewKey(now)
	if err != nil {
		t.Fatal(err)
	}
	a := Archive{Dir: t.TempDir(), Suite: "test", Label: "Test-Security", Key: key, Date: now, Until: now.Add(24 * time.Hour)}
	if err := os.MkdirAll(a.Pool(), 0o755); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestANewerBuildHasTheOldOnesFilesUnderALaterVersion(t *testing.T) {
	dir := t.TempDir()
	older := build(t, dir, "tool", "1.0-1")
	newer, err := Rebuild(t.Context(), older, dir, "+drydock1", func(tree string) error {
		return os.WriteFile(filepath.Join(tree, "DEBIAN", "postinst"), []byte("#!/bin/sh\nexit 1\n"), 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "tool_1.0-1+drydock1_amd64.deb"); newer != want {
		t.Errorf("it is %s, want %s", newer, want)
	}
	show := func(deb, what string) string {
		out, err := exec.Command("dpkg-deb", what, deb).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := show(newer, "--field"); !strings.Contains(got, "Version: 1.0-1+drydock1\n") {
		t.Errorf("control is\n%s", got)
	}
	if diff := cmp.Diff(show(older, "--fsys-tarfile"), show(newer, "--fsys-tarfile")); diff != "" {
		t.Error(diff)
	}
	if got := show(newer, "--info"); !strings.Contains(got, "postinst") {
		t.Errorf("the edit is not in it:\n%s", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestAnArchiveIsSignedAndNamesWhatIsInItsPool(t *testing.T) {
	a := newArchive(t)
	deb := build(t, a.Pool(), "tool", "1.0-1")
	if err := a.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := verified(t, a)
	for _, want := range []string{
		"Suite: test\n", "Label: Test-Security\n", "Date: Sun, 01 Mar 2026 12:00:00 UTC\n", "Valid-Until: Mon, 02 Mar 2026 12:00:00 UTC\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	index, err := os.ReadFile(filepath.Join(a.Dir, "dists/test/main/binary-amd64/Packages"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x %d main/binary-amd64/Packages", sha256.Sum256(index), len(index)); !strings.Contains(text, want) {
		t.Errorf("the index is not %q:\n%s", want, text)
	}
	data, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Package: tool\n", "Filename: pool/tool_1.0-1_amd64.deb\n", fmt.Sprintf("SHA256: %x\n", sha256.Sum256(data))} {
		if !strings.Contains(string(index), want) {
			t.Errorf("%q is not in\n%s", want, index)
		}
	}
}

// verified is what the archive says, after its signature was found to be of its key.
func verified(t *testing.T, a Archive) string {
	t.Helper()
	signed, err := os.ReadFile(filepath.Join(a.Dir, "dists", a.Suite, "InRelease"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := a.Key.Public()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(public))
	if err != nil {
		t.Fatal(err)
	}
	block, rest := clearsign.Decode(signed)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Fatalf("not one signed text: %s", signed)
	}
	if _, err := openpgp.CheckDetachedSignature(ring, bytes.NewReader(block.Bytes), block.ArmoredSignature.Body, nil); err != nil {
		t.Fatal(err)
	}
	return string(block.Plaintext)
}
