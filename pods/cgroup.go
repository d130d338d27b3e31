package pods

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroup is one container's control group, seen through the freezer of cgroup v1 or through cgroup v2.
type cgroup struct {
	dir string
	v2  bool
}

const cgroupRoot = "/sys/fs/cgroup"

// CgroupVersion tells which cgroup version containers are run under: 2 only where it is the system's only one.
func CgroupVersion() int {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return 2
	}
	return 1
}

func cgroupAt(path string) cgroup {
	if CgroupVersion() == 2 {
		return cgroup{dir: filepath.Join(cgroupRoot, path), v2: true}
	}
	return cgroup{dir: filepath.Join(cgroupRoot, "freezer", path)}
}

func (c cgroup) exists() bool {
	_, err := os.Stat(c.dir)
	return err == nil
}

// freeze stops every process of the group and returns once the kernel says that all of them are.
func (c cgroup) freeze(ctx context.Context) error {
	if err := c.write(true); err != nil {
		return err
	}
	return c.await(ctx, true)
}

func (c cgroup) thaw(ctx context.Context) error {
	if !c.exists() {
		return nil
	}
	if err := c.write(false); err != nil {
		return err
	}
	return c.await(ctx, false)
}

func (c cgroup) write(frozen bool) error {
	if !frozen && !c.exists() {
		return nil
	}
	file, value := "freezer.state", "THAWED"
	if frozen {
		value = "FROZEN"
	}
	if c.v2 {
		file, value = "cgroup.freeze", "0"
		if frozen {
			value = "1"
		}
	}
	if err := os.WriteFile(filepath.Join(c.dir, file), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s of cgroup %s: %w", file, c.dir, err)
	}
	return nil
}

// frozen reads the state back from the kernel.
func (c cgroup) frozen() (bool, error) {
	if c.v2 {
		data, err := os.ReadFile(filepath.Join(c.dir, "cgroup.events"))
		return strings.Contains(string(data), "frozen 1"), err
	}
	data, err := os.ReadFile(filepath.Join(c.dir, "freezer.state"))
	return strings.TrimSpace(string(data)) == "FROZEN", err
}

func (c cgroup) await(ctx context.Context, want bool) error {
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		got, err := c.frozen()
		if err != nil {
			return fmt.Errorf("read the freezer of cgroup %s: %w", c.dir, err)
		}
		if got == want {
			return nil
		}
		// A v1 freezer that met a task on its way through an uninterruptible sleep tries again only when asked.
		if err := c.write(want); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup %s: wanted frozen=%t: %w", c.dir, want, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// pids lists the processes of the group and of the groups below it.
func (c cgroup) pids() ([]int, error) {
	var pids []int
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
			return err
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// killAll ends every process of the group and of those below it without letting it run another instruction: SIGKILL is
// queued while they are frozen, and acts as soon as they are thawed.
func (c cgroup) killAll(ctx context.Context) error {
	for {
		pids, err := c.pids()
		if err != nil {
			return fmt.Errorf("list the processes of cgroup %s: %w", c.dir, err)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d of cgroup %s: %w", pid, c.dir, err)
			}
		}
		if err := c.thawTree(); err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end %d processes of cgroup %s: %w", len(pids), c.dir, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// thawTree thaws the group and those below it.
func (c cgroup) thawTree() error {
	return filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = cgroup{dir: path, v2: c.v2}.write(false)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
			return nil
		}
		return err
	})
}

// remove deletes the group in every hierarchy that has it. The group must be empty.
func removeCgroup(path string) error {
	roots := []string{cgroupRoot}
	if CgroupVersion() == 1 {
		var err error
		if roots, err = filepath.Glob(filepath.Join(cgroupRoot, "*")); err != nil {
			return err
		}
	}
	for _, root := range roots {
		dir := filepath.Join(root, path)
		var dirs []string
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := syscall.Rmdir(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove cgroup %s: %w", dirs[i], err)
			}
		}
	}
	return nil
}
