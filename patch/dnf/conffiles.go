package dnf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"drydock/patch"
	"drydock/patch/watch"

	"golang.org/x/sys/unix"
)

// Where rpm finds a configuration file that was changed on the host, the package says which one is used: the changed one, and the
// new one lies beside it as .rpmnew, or the new one, and the changed one lies beside it as .rpmsave.
const (
	beside = ".rpmnew"
	saved  = ".rpmsave"
)

// conffiles makes of what rpm did with changed configuration files what was ordered, and logs each. It may be called again.
func (d *Dnf) conffiles(ctx context.Context, w patch.Work) error {
	var names []string
	for _, p := range w.Patch.Packages {
		names = append(names, p.Name)
	}
	files, err := d.listed(ctx, "-c", names)
	if err != nil {
		return err
	}
	begun, err := os.Stat(filepath.Join(w.Dir, "before"))
	if err != nil {
		return fmt.Errorf("when the work began: %w", err)
	}
	for _, file := range files {
		path := filepath.Join("/", d.Root, file)
		var err error
		switch {
		case since(path+saved, begun.ModTime()) && w.Conffiles == patch.Keep:
			err = exchange(path, path+saved, path+beside)
		case since(path+beside, begun.ModTime()) && w.Conffiles == patch.Replace:
			err = exchange(path, path+beside, path+saved)
		}
		if err != nil {
			return fmt.Errorf("configuration file %s: %w", path, err)
		}
		if since(path+beside, begun.ModTime()) {
			err = watch.Head(w.Log, "kept", path+", which was changed on the host; the package's is", path+beside)
		} else if since(path+saved, begun.ModTime()) {
			err = watch.Head(w.Log, "replaced", path+", which was changed on the host; it is", path+saved, "now")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// exchange puts a file in another's place, and that one beside. There is always a file in the place.
func exchange(place, by, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(place, to); err != nil {
		return err
	}
	return os.Rename(by, place)
}

// since says whether a file was put where it is at a moment or later.
func since(path string, moment time.Time) bool {
	var stat unix.Stat_t
	return unix.Lstat(path, &stat) == nil && !time.Unix(stat.Ctim.Unix()).Before(moment)
}
