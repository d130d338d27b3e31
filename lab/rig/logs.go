package rig

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// KeepLogs copies what the hosts, the controllers and CRIU have logged to a directory, which is replaced: one below it for
// each host. It takes what there is, of a lab that is half gone too.
func (r *Rig) KeepLogs(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	var errs []error
	for _, node := range append(r.Hosts(), r.Controllers()...) {
		errs = append(errs, copyLogs(r.LogDir(node), filepath.Join(dir, node)))
		if root, err := r.Root(node); err == nil {
			errs = append(errs, copyLogs(root+"/run/drydock/migrations/", filepath.Join(dir, node, "migrations")))
		}
	}
	return errors.Join(errs...)
}

// copyLogs copies every log below a directory, if there is one. What vanishes meanwhile is left out.
func copyLogs(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() || !strings.HasSuffix(path, ".log") {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}
