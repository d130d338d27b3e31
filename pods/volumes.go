package pods

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	drydockv1 "drydock/api/drydock/v1"

	continuity "github.com/containerd/continuity/fs"
)

// ownVolumes gives every local volume that is still as it was made the owner and the mode of the directory that it will
// hide in the image's root, so that a service which does not run as root finds a directory that is its own.
func (r *Runtime) ownVolumes(pod *drydockv1.PodSpec, container *drydockv1.Container, root string) error {
	for _, v := range pod.Volumes {
		if v.GetLocal() == nil {
			continue
		}
		for _, m := range container.Mounts {
			if m.Volume != v.Name || m.SubPath != "" {
				continue
			}
			if err := likeImage(r.volumeDir(pod.Name, v.Name), root, m.Path); err != nil {
				return fmt.Errorf("volume %s of pod %s: %w", v.Name, pod.Name, err)
			}
		}
	}
	return nil
}

func likeImage(volume, root, path string) error {
	untouched, err := isUntouched(volume)
	if err != nil || !untouched {
		return err
	}
	hidden, err := continuity.RootPath(root, path)
	if err != nil {
		return err
	}
	info, err := os.Stat(hidden)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !known || !info.IsDir() {
		return nil
	}
	if err := os.Chown(volume, int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	return os.Chmod(volume, info.Mode())
}

// isUntouched tells whether a volume is an empty directory of root's.
func isUntouched(volume string) (bool, error) {
	dir, err := os.Open(volume)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return false, err
	}
	if owner, known := info.Sys().(*syscall.Stat_t); !known || owner.Uid != 0 || owner.Gid != 0 {
		return false, nil
	}
	_, err = dir.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}
