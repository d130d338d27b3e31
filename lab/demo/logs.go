package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"drydock/lab"
)

// keepLogs copies what the hosts and CRIU have logged to where it outlives the lab, and says where that is.
func (d *demo) keepLogs() error {
	if d.rig == nil {
		return nil
	}
	top := filepath.Join(d.Dir, "demo-logs")
	if err := os.RemoveAll(top); err != nil {
		return err
	}
	var errs []error
	for _, node := range append(d.rig.Hosts(), lab.ControllerNode) {
		errs = append(errs, copyLogs(d.rig.LogDir(node), filepath.Join(top, node)))
		if root, err := d.rig.Root(node); err == nil {
			errs = append(errs, copyLogs(root+"/run/drydock/migrations/", filepath.Join(top, node, "migrations")))
		}
	}
	_, err := fmt.Fprintf(d.Out, "the logs of the hosts are in %s\n", top)
	return errors.Join(append(errs, err)...)
}

// copyLogs copies every log below a directory, if there is one.
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
