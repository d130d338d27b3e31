package pods

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// Present names every pod of which something may run here, in order, whatever is remembered of it: those with a task in containerd,
// and those with a process in a cgroup.
func (r *Runtime) Present(ctx context.Context) ([]string, error) {
	list, err := r.client.TaskService().List(r.context(ctx), &tasks.ListTasksRequest{})
	if err != nil {
		return nil, fmt.Errorf("tasks of containerd: %w", err)
	}
	var names []string
	for _, task := range list.Tasks {
		pod, _, _ := strings.Cut(task.ContainerID, ".")
		names = append(names, pod)
	}
	dirs, err := os.ReadDir(cgroupAt(filepath.Join(r.cfg.CgroupParent, "pods")).dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, dir := range dirs {
		if !dir.IsDir() {
			continue
		}
		busy, err := populated(cgroupAt(r.podCgroup(dir.Name())).dir)
		if err != nil {
			return nil, err
		}
		if busy {
			names = append(names, dir.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// populated says whether a process is in a cgroup or below it.
func populated(dir string) (busy bool, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && entry.Name() != "cgroup.procs" {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if len(data) > 0 {
			busy = true
			return fs.SkipAll
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !strings.Contains(err.Error(), "no such device") {
			return err
		}
		return nil
	})
	return busy, err
}
