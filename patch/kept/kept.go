// Package kept is a directory of package files that were compared with what verified metadata says of them, kept aside until they are
// installed: neither a cleaning of the package manager's cache, nor a newer version, nor an archive that vanishes takes them away.
package kept

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
)

// Judge notes on updates, by name, architecture and version, the SHA-256 that verified metadata has for their files, and why they
// must not be installed.
type Judge interface {
	Judge(ctx context.Context, updates []*drydockv1.PackageUpdate) error
}

// Name is that of a package's file.
type Name func(*drydockv1.PinnedPackage) string

// Lacking are the packages whose files are not in dir, which is made. Files of other patches are removed.
func Lacking(p *drydockv1.Patch, dir string, name Name) ([]*drydockv1.PinnedPackage, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var missing []*drydockv1.PinnedPackage
	wanted := make(map[string]bool)
	for _, pkg := range p.GetPackages() {
		wanted[name(pkg)] = true
		if err := check(filepath.Join(dir, name(pkg)), pkg); err != nil {
			missing = append(missing, pkg)
		}
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !wanted[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return missing, err
}

// Updates are packages as a Judge takes them.
func Updates(pkgs []*drydockv1.PinnedPackage) []*drydockv1.PackageUpdate {
	var updates []*drydockv1.PackageUpdate
	for _, p := range pkgs {
		updates = append(updates, &drydockv1.PackageUpdate{Name: p.Name, Arch: p.Arch, From: p.From, To: p.To})
	}
	return updates
}

// Offered refuses packages that the verified metadata that lies here now does not offer as the patch has them.
func Offered(ctx context.Context, judge Judge, pkgs []*drydockv1.PinnedPackage) error {
	updates := Updates(pkgs)
	if err := judge.Judge(ctx, updates); err != nil {
		return err
	}
	refused := &patch.Refused{}
	for i, u := range updates {
		for _, b := range u.Blocked {
			refused.Reasons = append(refused.Reasons, patch.Refusal(b.Remedy, "%s %s: %s", u.Name, u.To, b.Reason))
		}
		if len(u.Blocked) == 0 && u.Sha256 != pkgs[i].Sha256 {
			refused.Reasons = append(refused.Reasons, patch.Refusal("resolve the patch again",
				"%s %s is another file now: SHA-256 %s, the patch has %s", u.Name, u.To, u.Sha256, pkgs[i].Sha256))
		}
	}
	if len(refused.Reasons) > 0 {
		return refused
	}
	return nil
}

// Keep takes a package's file from where it was fetched to, or copies it where it was there before. A file that is not the one that
// was verified is removed: the package manager would take it for the right one.
func Keep(from, to string, p *drydockv1.PinnedPackage, was bool) error {
	if err := check(from, p); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			err = errors.Join(err, os.Remove(from))
		}
		return patch.Refuse("try again; if it stays, see who answers in the archive's place", "the file of %s %s is not the one that was verified: %v", p.Name, p.To, err)
	}
	if !was && os.Rename(from, to) == nil {
		return nil
	}
	if err := copyFile(from, to); err != nil {
		return err
	}
	if !was {
		return os.Remove(from)
	}
	return nil
}

// Usable are the paths of packages' files, each compared with its sum once more.
func Usable(pkgs []*drydockv1.PinnedPackage, dir string, name Name) ([]string, error) {
	var files []string
	refused := &patch.Refused{}
	for _, p := range pkgs {
		path := filepath.Join(dir, name(p))
		if err := check(path, p); err != nil {
			refused.Reasons = append(refused.Reasons, patch.Refusal("download the patch again", "the file of %s %s cannot be used: %v", p.Name, p.To, err))
		}
		files = append(files, path)
	}
	if len(refused.Reasons) > 0 {
		return nil, refused
	}
	return files, nil
}

// check compares a file with the SHA-256 of a package.
func check(path string, p *drydockv1.PinnedPackage) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.Sha256 {
		return fmt.Errorf("%s has SHA-256 %s, and not %s", path, got, p.Sha256)
	}
	return nil
}

// copyFile has the whole file in its place or none.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".copy-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}
