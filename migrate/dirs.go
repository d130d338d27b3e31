package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"drydock/pods"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountLabel is the source of what is mounted for a migration: by it, what is ours is known.
const mountLabel = "drydock"

// dir holds what of a migration lies in memory: CRIU's images, hooks, marks.
func (e *Engine) dir(migration string) string { return filepath.Join(e.migrations(), migration) }

func (e *Engine) migrations() string { return filepath.Join(e.RunDir, "migrations") }

// sweep takes away the directories of migrations that none of the journals names: an agent that ended right after it had
// adopted a pod leaves one, with the pod's memory in it.
func (e *Engine) sweep(names []string) error {
	entries, err := os.ReadDir(e.migrations())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for what earlier migrations left: %w", err)
	}
	live := make(map[string]bool)
	for _, pod := range names {
		j, err := e.journals.load(pod)
		if err != nil {
			e.Log.Warn("what earlier migrations left stays: one of them may be this pod's", "pod", pod, "error", err)
			return nil
		}
		live[j.Migration] = true
	}
	var errs []error
	for _, entry := range entries {
		if live[entry.Name()] {
			continue
		}
		ours, err := labelled(e.dir(entry.Name()))
		if err == nil && !ours {
			e.Log.Warn("a directory among the migrations' is not Drydock's, and stays", "directory", e.dir(entry.Name()))
			continue
		}
		if err == nil {
			e.Log.Info("what an earlier migration left is removed", "migration", entry.Name())
			err = e.removeDir(entry.Name())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// labelled tells whether all that is mounted at and below a directory is Drydock's.
func labelled(dir string) (bool, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return false, fmt.Errorf("read the mounts below %s: %w", dir, err)
	}
	for _, m := range mounts {
		if m.Source != mountLabel || m.Mountpoint != dir {
			return false, nil
		}
	}
	return true, nil
}

// removeDir takes away a migration's directory, with the file system in memory that is mounted there.
func (e *Engine) removeDir(migration string) error {
	if migration == "" {
		return nil
	}
	dir := e.dir(migration)
	works, err := filepath.Glob(filepath.Join(dir, "work", "*"))
	if err != nil {
		return err
	}
	for _, work := range works {
		if err := pods.RemoveRoots(pods.Restore{Work: work}); err != nil {
			return err
		}
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// makeDir mounts a file system that is never swapped out, for a migration's images.
func (e *Engine) makeDir(migration string) (string, error) {
	dir := e.dir(migration)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var here, above unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &here), unix.Stat(dir+"/..", &above)); err != nil {
		return "", err
	}
	if here.Dev != above.Dev {
		return dir, nil // an earlier attempt has mounted it
	}
	err := unix.Mount(mountLabel, dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=100%,noswap")
	if errors.Is(err, unix.EINVAL) {
		// Kernels before 6.4 cannot keep a tmpfs from being swapped out; a ramfs never is.
		err = unix.Mount(mountLabel, dir, "ramfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700")
	}
	if err != nil {
		return "", fmt.Errorf("mount a file system in memory at %s: %w", dir, err)
	}
	return dir, nil
}
