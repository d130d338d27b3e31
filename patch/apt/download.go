package apt

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
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
	"drydock/patch"
)

// Download implements patch.Installer. apt fetches into its own cache, as a user without rights; what has the right sum is then
// moved aside, where no cleaning of the cache, and no newer version, takes it away.
func (a *Apt) Download(ctx context.Context, p *drydockv1.Patch, dir string, tell patch.Tell) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	missing, err := lackingFiles(p, dir)
	if err != nil || len(missing) == 0 {
		return err
	}
	if err := a.offered(ctx, missing); err != nil {
		return err
	}
	where, err := a.paths(ctx)
	if err != nil {
		return err
	}
	if err := a.turn(ctx, where.downloading(), func(activity string) { tell(0, activity) }); err != nil {
		return err
	}
	was := cached(where.archives, missing)
	args := slices.Concat([]string{"install", "--download-only", "--no-remove", "--no-install-recommends"}, quiet,
		[]string{"-o", "APT::Status-Fd=3", "-o", "Acquire::Retries=2", "-o", "DPkg::Lock::Timeout=60"}, pins(updatesOf(missing)))
	if _, err := a.watched(a.command(ctx, "apt-get", args...), filepath.Dir(dir), filepath.Join(filepath.Dir(dir), "download.log"), false, tell); err != nil {
		var failed *failure
		if errors.As(err, &failed) && ctx.Err() == nil {
			return patch.Refuse("bring the archive back, or resolve the patch again", "apt cannot fetch the patch: %s", failed.words())
		}
		return err
	}
	for _, pkg := range missing {
		if err := keep(filepath.Join(where.archives, fileName(pkg)), filepath.Join(dir, fileName(pkg)), pkg, was[fileName(pkg)]); err != nil {
			return err
		}
	}
	return durable.SyncDir(dir)
}

// lackingFiles are the packages whose files are not kept in dir. Files of other patches are removed.
func lackingFiles(p *drydockv1.Patch, dir string) ([]*drydockv1.PinnedPackage, error) {
	var missing []*drydockv1.PinnedPackage
	wanted := make(map[string]bool)
	for _, pkg := range p.GetPackages() {
		wanted[fileName(pkg)] = true
		if err := check(filepath.Join(dir, fileName(pkg)), pkg); err != nil {
			missing = append(missing, pkg)
		}
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !wanted[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return missing, err
}

func updatesOf(pkgs []*drydockv1.PinnedPackage) []*drydockv1.PackageUpdate {
	var updates []*drydockv1.PackageUpdate
	for _, p := range pkgs {
		updates = append(updates, &drydockv1.PackageUpdate{Name: p.Name, Arch: p.Arch, From: p.From, To: p.To})
	}
	return updates
}

// offered says which packages the verified metadata that lies here now does not offer as the patch has them.
func (a *Apt) offered(ctx context.Context, pkgs []*drydockv1.PinnedPackage) error {
	updates := updatesOf(pkgs)
	if err := a.Judge.Judge(ctx, updates); err != nil {
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

// cached are the files of packages that lie in apt's cache.
func cached(archives string, pkgs []*drydockv1.PinnedPackage) map[string]bool {
	there := make(map[string]bool)
	for _, p := range pkgs {
		_, err := os.Stat(filepath.Join(archives, fileName(p)))
		there[fileName(p)] = err == nil
	}
	return there
}

// keep takes a package's file out of apt's cache, or copies it where it lay there before. A file that is not the one that was
// verified is removed: apt would take it for the right one.
func keep(from, to string, p *drydockv1.PinnedPackage, was bool) error {
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
