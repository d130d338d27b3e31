// Package census counts what there is on the hosts of a lab, so that what was left behind is found by its name.
package census

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"drydock/lab"
	"drydock/lab/rig"

	"github.com/moby/sys/mountinfo"
)

// Census counts what there is on every host, by kind and name. Numbers and identifiers in names are replaced, so that
// what comes anew with every move is counted under one name.
type Census map[string]int

// Take counts everything in the lab.
func Take(ctx context.Context, r *rig.Rig) (Census, error) {
	c := make(Census)
	for _, node := range append(r.Hosts(), lab.ControllerNode) {
		root, err := r.Root(node)
		if err != nil {
			return nil, err
		}
		pid, err := r.InitPID(node)
		if err != nil {
			return nil, err
		}
		errs := []error{c.processes(node, root), c.mounts(node, pid), c.cgroups(r.Name(), node), c.links(r, node)}
		if node != lab.ControllerNode {
			errs = append(errs, c.files(node, root), c.containerd(ctx, r, node))
		}
		if err := errors.Join(errs...); err != nil {
			return nil, fmt.Errorf("count what is on %s: %w", node, err)
		}
	}
	return c, nil
}

// More lists what there is more of in a later Census, by name.
func (c Census) More(later Census) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(later)) {
		if later[name] > c[name] {
			names = append(names, fmt.Sprintf("%s: %d before, %d after", name, c[name], later[name]))
		}
	}
	return names
}

func (c Census) add(node, kind, name string) { c[node+" "+kind+" "+generic(name)]++ }

var (
	// identifier is a migration's, and then some.
	identifier = regexp.MustCompile(`[0-9a-z]{8,}-[0-9a-z]{8}|[0-9a-f]{16,}`)
	number     = regexp.MustCompile(`[0-9]+`)
)

// generic replaces what differs from one thing to the next of its kind. The digits of hosts' names stay out of it.
func generic(name string) string {
	return number.ReplaceAllString(identifier.ReplaceAllString(name, "ID"), "N")
}

// processes counts those in the host's PID namespace, pods' included, by program, and their namespaces.
func (c Census) processes(node, root string) error {
	dirs, err := filepath.Glob(root + "/proc/[0-9]*")
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if open < 0 || end < 0 || end+2 >= len(stat) {
			return fmt.Errorf("%s/stat holds %q", dir, stat)
		}
		kind := "process"
		if stat[end+2] == 'Z' {
			kind = "zombie"
		}
		c.add(node, kind, string(stat[open+1:end]))
		spaces, _ := filepath.Glob(dir + "/ns/*")
		for _, space := range spaces {
			target, err := os.Readlink(space)
			if err != nil || strings.HasSuffix(space, "_for_children") || seen[target] {
				continue
			}
			seen[target] = true
			c.add(node, "namespace", filepath.Base(space))
		}
	}
	return nil
}

func (c Census) mounts(node string, pid int) error {
	file, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return err
	}
	defer file.Close()
	infos, err := mountinfo.GetMountsFromReader(file, nil)
	if err != nil {
		return err
	}
	for _, info := range infos {
		c.add(node, "mount", info.FSType+" at "+info.Mountpoint)
	}
	return nil
}

// cgroups counts the host's in every hierarchy.
func (c Census) cgroups(name, node string) error {
	for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		tops, err := filepath.Glob(filepath.Join(hierarchy, "drydock-lab", name, node))
		if err != nil {
			return err
		}
		for _, top := range tops {
			if err := c.walk(node, "cgroup", top, "/sys/fs/cgroup", func(e fs.DirEntry) bool { return e.IsDir() }, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c Census) links(r *rig.Rig, node string) error {
	return r.InNetNS(node, func() error {
		// The thread's own, as /sys belongs to the namespace that it was mounted in.
		data, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if name, _, found := strings.Cut(line, ":"); found {
				c.add(node, "link", strings.TrimRight(strings.TrimSpace(name), "0123456789abcdef"))
			}
		}
		return nil
	})
}

// files counts what Drydock and containerd keep on the host, but not what lies in images.
func (c Census) files(node, root string) error {
	for _, place := range []struct {
		dir   string
		depth int // 0: all
	}{
		{"/var/lib/drydock", 0}, {"/run/drydock", 0}, {"/etc/criu", 0}, {"/run/containerd", 6},
		{"/var/lib/containerd/io.containerd.content.v1.content", 0},
		{"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots", 2},
		{"/var/lib/containerd/tmpmounts", 1}, {"/tmp", 0}, {"/dev/shm", 0},
	} {
		every := func(fs.DirEntry) bool { return true }
		if err := c.walk(node, "file", root+place.dir, root, every, place.depth); err != nil {
			return err
		}
	}
	return nil
}

// walk counts what lies below a directory, by its path without the prefix. What vanishes meanwhile, or never was, does not
// count.
func (c Census) walk(node, kind, top, prefix string, counts func(fs.DirEntry) bool, depth int) error {
	return filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if counts(entry) {
			c.add(node, kind, strings.TrimPrefix(path, prefix))
		}
		if depth > 0 && entry.IsDir() && strings.Count(strings.TrimPrefix(path, top), "/") >= depth {
			return fs.SkipDir
		}
		return nil
	})
}

// containerd counts what its database knows of in Drydock's namespace.
func (c Census) containerd(ctx context.Context, r *rig.Rig, node string) error {
	for kind, list := range map[string][]string{
		"containerd lease": {"leases", "ls", "-q"}, "containerd container": {"containers", "ls", "-q"},
		"containerd image": {"images", "ls", "-q"}, "containerd content": {"content", "ls", "-q"},
		"containerd snapshot": {"snapshots", "ls"}, "containerd task": {"tasks", "ls", "-q"},
	} {
		out, err := r.Exec(ctx, node, append([]string{"ctr", "--namespace", "drydock"}, list...)...).Output()
		if err != nil {
			return fmt.Errorf("ctr %s: %w", list[0], err)
		}
		for line := range strings.Lines(string(out)) {
			if fields := strings.Fields(line); len(fields) > 0 {
				c.add(node, kind, fields[0])
			}
		}
	}
	return nil
}
