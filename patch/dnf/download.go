package dnf

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
	"drydock/patch"
	"drydock/patch/kept"
)

//go:embed download.py
var downloadScript string

// fetched is where dnf fetches files to, within the directory that they are kept in.
const fetched = "fetched"

// Download implements patch.Installer.
func (d *Dnf) Download(ctx context.Context, p *drydockv1.Patch, dir string, tell patch.Tell) error {
	missing, err := kept.Lacking(p, dir, fileName)
	if err != nil || len(missing) == 0 {
		return err
	}
	installed, err := d.state(ctx)
	if err != nil {
		return err
	}
	if missing = slices.DeleteFunc(missing, installed.whole); len(missing) == 0 {
		return nil // the patch was installed before, and is asked for again after what came then
	}
	if err := kept.Offered(ctx, d.Judge, missing); err != nil {
		return err
	}
	where, err := d.paths(ctx)
	if err != nil {
		return err
	}
	if err := d.turn(ctx, where.downloading, func(activity string) { tell(0, activity) }); err != nil {
		return err
	}
	into := filepath.Join(dir, fetched)
	if err := os.MkdirAll(into, 0o700); err != nil {
		return err
	}
	var pins []pin
	for _, pkg := range missing {
		pins = append(pins, pinOf(pkg))
	}
	done, err := d.watched(ctx, "fetch package files", downloadScript, map[string]any{"wanted": pins, "dir": into}, filepath.Dir(dir), filepath.Join(filepath.Dir(dir), "download.log"), tell)
	if err != nil {
		return err
	}
	if done.Refused != "" {
		return patch.Refuse(done.Remedy, "%s", done.Refused)
	}
	if len(done.Files) != len(missing) {
		return errors.New("dnf did not say where it has put the package files")
	}
	for i, pkg := range missing {
		elsewhere := !strings.HasPrefix(done.Files[i], into+"/")
		if err := kept.Keep(done.Files[i], filepath.Join(dir, fileName(pkg)), pkg, elsewhere); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(into), durable.SyncDir(dir))
}
