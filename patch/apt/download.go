package apt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
	"drydock/patch"
	"drydock/patch/kept"
)

// Download implements patch.Installer. apt fetches into its own cache, as a user without rights.
func (a *Apt) Download(ctx context.Context, p *drydockv1.Patch, dir string, tell patch.Tell) error {
	missing, err := kept.Lacking(p, dir, fileName)
	if err != nil || len(missing) == 0 {
		return err
	}
	where, err := a.paths(ctx)
	if err != nil {
		return err
	}
	all, err := a.database(ctx, where)
	if err != nil {
		return err
	}
	if missing = packed(all, missing); len(missing) == 0 {
		return nil // the patch was installed before, and is asked for again after what came then
	}
	if err := kept.Offered(ctx, a.Judge, missing); err != nil {
		return err
	}
	if err := a.turn(ctx, where.downloading(), func(activity string) { tell(0, activity) }); err != nil {
		return err
	}
	was := cached(where.archives, missing)
	args := slices.Concat([]string{"install", "--download-only", "--no-remove", "--no-install-recommends"}, again, quiet,
		[]string{"-o", "APT::Status-Fd=3", "-o", "Acquire::Retries=2", "-o", "DPkg::Lock::Timeout=60"}, pins(kept.Updates(missing)))
	if _, err := a.watched(a.command(ctx, "apt-get", args...), filepath.Dir(dir), filepath.Join(filepath.Dir(dir), "download.log"), false, tell); err != nil {
		var failed *failure
		if errors.As(err, &failed) && ctx.Err() == nil {
			return patch.Refuse("bring the archive back, or resolve the patch again", "apt cannot fetch the patch: %s", failed.words())
		}
		return err
	}
	for _, pkg := range missing {
		if err := kept.Keep(filepath.Join(where.archives, fileName(pkg)), filepath.Join(dir, fileName(pkg)), pkg, was[fileName(pkg)]); err != nil {
			return err
		}
	}
	return durable.SyncDir(dir)
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
