package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile replaces path by v as JSON, so that after a crash at any point either the old or the new content is there.
// When it returns nil the new content survives a power failure.
func writeFile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// RemoveTorn removes from a directory what a process that was killed while it wrote a journal or a fence there has left.
func RemoveTorn(dir string) error {
	torn, err := filepath.Glob(filepath.Join(dir, ".*.json-*"))
	for _, path := range torn {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// removeFile removes path durably. A file that is not there is no error.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("make the change in %s durable: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("make the change in %s durable: %w", dir, err)
	}
	return nil
}

// readFile fills v from path. found is false when there is no such file.
func readFile(path string, v any) (found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("decode %s: %w", path, err)
	}
	return true, nil
}

// knownLayout is an error for a layout that is newer than what this program knows, and for content that names none: it is
// not what was written, and must not pass for an empty one.
func knownLayout(version, known int) error {
	switch {
	case version > known:
		return fmt.Errorf("layout %d, this program knows up to %d: upgrade it", version, known)
	case version < 1:
		return fmt.Errorf("layout %d, this program knows 1 to %d: the content is damaged", version, known)
	}
	return nil
}
