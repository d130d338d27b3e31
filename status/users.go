package status

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// fileID is what a file is, whatever it is called: in a pod it has another path than on the host.
type fileID struct{ dev, ino uint64 }

func fileIDOf(path string) (fileID, bool, error) {
	var stat unix.Stat_t
	err := unix.Stat(path, &stat)
	if err != nil {
		return fileID{}, false, err
	}
	return fileID{stat.Dev, stat.Ino}, stat.Mode&unix.S_IFMT == unix.S_IFREG, nil
}

// PodsUsing names the pods with processes that have mapped files of these paths, in order. proc is where /proc is.
func PodsUsing(ctx context.Context, proc string, files []string, pod Pod) ([]string, error) {
	wanted := make(map[fileID]bool)
	for _, path := range files {
		if id, regular, err := fileIDOf(path); err == nil && regular {
			wanted[id] = true
		}
	}
	entries, err := os.ReadDir(proc)
	if err != nil || len(wanted) == 0 {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir := filepath.Join(proc, entry.Name())
		name := describe(dir, pid, nil, pod).Pod
		if name == "" || slices.Contains(names, name) {
			continue
		}
		uses, err := maps(dir, wanted)
		if err != nil {
			return nil, fmt.Errorf("process %d of pod %s: %w", pid, name, err)
		}
		if uses {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// maps says whether a process has mapped one of the files.
func maps(dir string, wanted map[fileID]bool) (bool, error) {
	mapped, err := os.ReadDir(filepath.Join(dir, "map_files"))
	if gone(err) || errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	for _, m := range mapped {
		if id, _, serr := fileIDOf(filepath.Join(dir, "map_files", m.Name())); serr == nil && wanted[id] {
			return true, nil
		}
	}
	return false, err
}
