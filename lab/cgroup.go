package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one cgroup tree of this machine: a version 1 one with its controllers, or the unified one.
type hierarchy struct {
	mount   string
	unified bool
	cpuset  bool // version 1 with the cpuset controller
	freezer bool // version 1 with the freezer controller
}

// hierarchies lists every cgroup tree once, from the mount table.
func hierarchies() ([]hierarchy, error) {
	mounts, err := mountTable()
	if err != nil {
		return nil, err
	}
	var list []hierarchy
	seen := map[string]bool{}
	for _, m := range mounts {
		if m.fstype != "cgroup" && m.fstype != "cgroup2" || seen[m.device] || m.root != "/" {
			continue
		}
		seen[m.device] = true
		opts := strings.Split(m.superOpts, ",")
		list = append(list, hierarchy{
			mount:   m.point,
			unified: m.fstype == "cgroup2",
			cpuset:  slices.Contains(opts, "cpuset"),
			freezer: slices.Contains(opts, "freezer"),
		})
	}
	if len(list) == 0 {
		return nil, errors.New("no cgroup file system is mounted below /sys/fs/cgroup; mount one")
	}
	return list, nil
}

func (h hierarchy) dir(group string) string { return filepath.Join(h.mount, group) }

// makeGroup makes the group, and what lies above it, in every hierarchy. Its children may use every controller that
// this machine offers.
func makeGroup(group string) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hs {
		at := h.mount
		for _, part := range strings.Split(group, "/") {
			if err := h.enableControllers(at); err != nil {
				return err
			}
			parent := at
			at = filepath.Join(at, part)
			if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make cgroup: %w", err)
			}
			if err := h.inheritCpuset(parent, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// enableControllers hands every controller of a unified group on to its children. cpu, memory and pids are what pods
// cannot do without; the others may be refused, as some kernels do in some states.
func (h hierarchy) enableControllers(dir string) error {
	if !h.unified {
		return nil
	}
	offered, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cgroup controllers: %w", err)
	}
	for _, c := range strings.Fields(string(offered)) {
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
		if err != nil && slices.Contains([]string{"cpu", "memory", "pids"}, c) {
			return fmt.Errorf("enable the %s controller below %s: %w", c, dir, err)
		}
	}
	return nil
}

// inheritCpuset fills a new version 1 cpuset, which starts empty and then takes no process.
func (h hierarchy) inheritCpuset(parent, dir string) error {
	if !h.cpuset {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return fmt.Errorf("cpuset: %w", err)
		}
		if strings.TrimSpace(string(have)) != "" {
			continue
		}
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), value, 0)
		}
		if err != nil {
			return fmt.Errorf("cpuset of %s: %w", dir, err)
		}
	}
	return nil
}

// joinGroup moves this process into the group in every hierarchy.
func joinGroup(group string) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hs {
		if err := os.WriteFile(filepath.Join(h.dir(group), "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// groupDirs lists the group's directory and all below it, in every hierarchy, children before parents.
func groupDirs(group string) ([]string, error) {
	hs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range hs {
		var below []string
		err := filepath.WalkDir(h.dir(group), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				below = append(below, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
		slices.Reverse(below)
		dirs = append(dirs, below...)
	}
	return dirs, nil
}

// groupProcesses lists the processes in the group and below it, in any hierarchy.
func groupProcesses(group string) ([]int, error) {
	dirs, err := groupDirs(group)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range dirs {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // gone meanwhile
		}
		for _, f := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// killGroup ends every process in the group and below it. Frozen ones are thawed only after the signal is queued, so
// that none runs another instruction. It returns when none is left.
func killGroup(ctx context.Context, group string) error {
	for {
		pids, err := groupProcesses(group)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := killInGroup(pid, group); err != nil {
				return err
			}
		}
		if err := thawGroup(group); err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("processes %v in cgroup /%s do not end: %w", pids, group, err)
		}
	}
}

// killInGroup kills pid if it still is a process of the group: the descriptor makes sure that no other gets the signal.
func killInGroup(pid int, group string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	member, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(strings.ReplaceAll(string(member), "\n", "/\n"), ":/"+group+"/") {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

func thawGroup(group string) error {
	dirs, err := groupDirs(group)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		for file, value := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
			path := filepath.Join(dir, file)
			if _, err := os.Stat(path); err != nil {
				continue
			}
			if err := os.WriteFile(path, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("thaw: %w", err)
			}
		}
	}
	return nil
}

// removeGroup removes the group and all below it. A group stays busy for a moment after its last process has ended.
func removeGroup(ctx context.Context, group string) error {
	for {
		dirs, err := groupDirs(group)
		if err != nil || len(dirs) == 0 {
			return err
		}
		var busy error
		for _, dir := range dirs {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				busy = fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
		if busy == nil {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("%w: %w", busy, err)
		}
	}
}

// childGroups names the groups right below group.
func childGroups(group string) ([]string, error) {
	hs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, h := range hs {
		entries, _ := os.ReadDir(h.dir(group))
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// removeEmptyGroup removes the group in every hierarchy where nothing is below it.
func removeEmptyGroup(group string) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hs {
		err := unix.Rmdir(h.dir(group))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}
