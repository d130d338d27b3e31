package status

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// Pod names the pod that a process is in by the cgroups that it is in, or "".
type Pod func(cgroups []string) string

// PodsBelow is the Pod of hosts whose pods' cgroups are PARENT/pods/POD.
func PodsBelow(parent string) Pod {
	prefix := filepath.Join("/", parent, "pods") + "/"
	return func(cgroups []string) string {
		for _, group := range cgroups {
			// Seen from another cgroup namespace there may be something before it.
			if _, rest, found := strings.Cut(group, prefix); found {
				name, _, _ := strings.Cut(rest, "/")
				return name
			}
		}
		return ""
	}
}

// staleProcesses finds those that still run code of files that were replaced or removed. proc is where /proc is.
func staleProcesses(ctx context.Context, proc string, pod Pod) ([]*drydockv1.StaleProcess, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var stale []*drydockv1.StaleProcess
	var failed error
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir := filepath.Join(proc, entry.Name())
		files, err := replacedFiles(filepath.Join(dir, "maps"))
		if gone(err) {
			continue
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("process %d: %w", pid, err))
			continue
		}
		if len(files) > 0 {
			stale = append(stale, describe(dir, pid, files, pod))
		}
	}
	return stale, failed
}

// gone says whether a process ended while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || err != nil && strings.Contains(err.Error(), "no such process")
}

func describe(dir string, pid int, files []string, pod Pod) *drydockv1.StaleProcess {
	p := &drydockv1.StaleProcess{Pid: int32(pid), Files: files}
	if name, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil {
		p.Command = strings.TrimSpace(string(name))
	}
	var groups []string
	data, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
	for line := range strings.Lines(string(data)) {
		if part := strings.SplitN(strings.TrimSpace(line), ":", 3); len(part) == 3 {
			groups = append(groups, part[2])
		}
	}
	p.Pod = pod(groups)
	for _, group := range groups {
		for part := range strings.SplitSeq(group, "/") {
			if strings.HasSuffix(part, ".service") {
				p.Unit = part
			}
		}
	}
	return p
}

// replacedFiles reads which files a process has code mapped of that are no longer where they were.
func replacedFiles(maps string) ([]string, error) {
	f, err := os.Open(maps)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var files []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if path := replacedCode(lines.Text()); path != "" && !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	slices.Sort(files)
	return files, lines.Err()
}

// replacedCode is the file of a line of /proc/PID/maps that maps code which is no longer on disk, or "".
//
// The kernel writes " (deleted)" behind every name that leads nowhere, and most of those never led to a file that a package
// brought: memory that has a name (memfd, SysV shared memory, /dev/zero, huge pages, AIO rings, devices) and what programs
// write and run for themselves in directories for temporary files. Data counts for nothing: a library that was replaced has
// its code mapped too.
func replacedCode(line string) string {
	fields := strings.Fields(line)
	if len(fields) < 7 || !strings.Contains(fields[1], "x") {
		return ""
	}
	_, path, found := strings.Cut(line, "/")
	path, deleted := strings.CutSuffix("/"+path, " (deleted)")
	if !found || !deleted || fields[4] == "0" {
		return ""
	}
	for _, prefix := range []string{"/memfd:", "/dev/", "/SYSV", "/anon_hugepage", "/[", "/tmp/", "/var/tmp/", "/run/", "/var/run/", "/drm", "/i915"} {
		if strings.HasPrefix(path, prefix) {
			return ""
		}
	}
	return path
}
