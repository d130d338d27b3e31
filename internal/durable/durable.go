// Package durable replaces and removes small files so that a crash or a power failure at any moment leaves either the old or
// the new state, and what was reported as done stays done.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace gives path the content data, and makes missing directories for their owner only. After a crash the old or the new
// content is there; when it returns nil, the new one survives a power failure.
//
// A rename alone is not enough for that: POSIX makes it durable only with a sync of the directory, see rename(2) and fsync(2).
func Replace(path string, data []byte, mode os.FileMode) error {
	return disk{(*os.File).Sync}.replace(path, data, mode)
}

// Remove removes path. A file that is not there is no error. When it returns nil, the file is gone after a power failure too.
func Remove(path string) error { return disk{(*os.File).Sync}.remove(path) }

// SyncDir makes durable what was made, renamed and removed in a directory.
func SyncDir(dir string) error { return disk{(*os.File).Sync}.syncDir(dir) }

// disk is what files lie on; sync brings an open file or directory there.
type disk struct{ sync func(*os.File) error }

func (d disk) replace(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	if err := d.makeDir(dir); err != nil {
		return fmt.Errorf("make the directory of %s: %w", path, err)
	}
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Chmod(mode), d.sync(file), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(file.Name()))
	}
	return d.syncDir(dir)
}

// makeDir makes a directory and those above it, each of them durable before anything is made in it.
func (d disk) makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	above := filepath.Dir(dir)
	if above != dir {
		if err := d.makeDir(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncDir(above)
}

func (d disk) remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove: %w", err)
	}
	return d.syncDir(filepath.Dir(path))
}

func (d disk) syncDir(dir string) error {
	file, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.sync(file), file.Close())
	}
	if err != nil {
		return fmt.Errorf("make the change in %s durable: %w", dir, err)
	}
	return nil
}

// RemoveTorn removes from a directory what a process that was killed while it replaced a JSON file there has left. Nothing
// may be replaced there meanwhile.
func RemoveTorn(dir string) error {
	torn, err := filepath.Glob(filepath.Join(dir, ".*.json-*"))
	for _, path := range torn {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
