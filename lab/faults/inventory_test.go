//go:build faults

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// inventory counts what is on a host: processes, mounts, links, tables of the packet filter, cgroups, files, and what
// containerd knows. Numbers in names are left out, and so are the ids of boots: what is made anew counts as the same.
type inventory map[string]int

var numbers = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+`)

func (i inventory) add(kind, name string) { i[kind+" "+numbers.ReplaceAllString(name, "N")]++ }

// minus is what there is more of than in a baseline.
func (i inventory) minus(baseline inventory) []string {
	var extra []string
	for what, count := range i {
		if more := count - baseline[what]; more > 0 {
			extra = append(extra, fmt.Sprintf("%d x %s", more, what))
		}
	}
	slices.Sort(extra)
	return extra
}

func (b *bench) inventory(ctx context.Context, host string) (inventory, error) {
	now := make(inventory)
	root, err := b.Root(host)
	if err != nil {
		return nil, err
	}
	errs := []error{
		b.containerd(ctx, host, now), // before the processes: it starts some
		b.processes(host, now),
		b.mounts(root, now),
		b.links(host, now),
		b.cgroups(host, now),
	}
	for _, dir := range []string{"/run/drydock", "/run/containerd/runc", "/var/lib/drydock", "/tmp", "/dev/shm", "/etc/drydock"} {
		errs = append(errs, files(root, dir, now))
	}
	return now, errors.Join(errs...)
}

func (b *bench) group(host string) string { return filepath.Join("drydock-lab", b.Name(), host) }

func (b *bench) processes(host string, now inventory) error {
	paths, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return err
	}
	for _, path := range paths {
		groups, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(bytes.ReplaceAll(groups, []byte("\n"), []byte("/\n")), []byte(":/"+b.group(host)+"/")) {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err != nil {
			continue // it ended
		}
		if len(cmdline) == 0 {
			cmdline = []byte("a zombie")
		}
		now.add("process", string(bytes.ReplaceAll(bytes.TrimRight(cmdline, "\x00"), []byte{0}, []byte(" "))))
	}
	return nil
}

func (b *bench) mounts(root string, now inventory) error {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(root), "mountinfo"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			now.add("mount", fields[4])
		}
	}
	return nil
}

func (b *bench) links(host string, now inventory) error {
	return b.InNetNS(host, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			now.add("link", link.Type()) // a pod's names are drawn from its name, which never changes
		}
		filter, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := filter.ListTables()
		for _, table := range tables {
			now.add("table", table.Name)
		}
		return err
	})
}

func (b *bench) cgroups(host string, now inventory) error {
	tops, err := filepath.Glob("/sys/fs/cgroup/*/" + b.group(host))
	if err != nil {
		return err
	}
	for _, top := range tops {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				now.add("cgroup", path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// containerd's containers, snapshots and leases. Its content is a cache of images, which may grow.
func (b *bench) containerd(ctx context.Context, host string, now inventory) error {
	for _, kind := range []string{"containers", "tasks", "snapshots", "leases"} {
		cmd := b.Exec(ctx, host, "ctr", "-n", "drydock", kind, "ls")
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("ctr %s on %s: %w", kind, host, err)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			if fields := strings.Fields(line); i > 0 && len(fields) > 0 {
				now.add("containerd's "+kind, fields[0])
			}
		}
	}
	return nil
}

// files lists what lies below a directory of a host, but for what is kept on purpose: certificates, and runc's note in a
// container's state that it was checkpointed once, which goes with the container.
func files(root, dir string, now inventory) error {
	return filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		if d.IsDir() && (d.Name() == "pki" || name == "/etc/drydock/faults") {
			return fs.SkipDir
		}
		if strings.HasPrefix(name, "/run/containerd/runc/") && d.Name() == "checkpoint" {
			return nil
		}
		now.add("file", name)
		return nil
	})
}
