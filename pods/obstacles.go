package pods

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

	drydockv1 "drydock/api/drydock/v1"

	"github.com/moby/sys/mountinfo"
)

// Obstacle is one reason why a pod cannot be checkpointed now, and what would remove it.
type Obstacle struct{ Reason, Remedy string }

// Obstacles looks at every process of a running pod for what CRIU cannot carry over.
func (r *Runtime) Obstacles(ctx context.Context, pod string) ([]Obstacle, error) {
	rec, err := r.Record(pod)
	if err != nil {
		return nil, err
	}
	processes, err := r.Processes(pod)
	if err != nil {
		return nil, err
	}
	var found []Obstacle
	for _, c := range rec.Spec.Containers {
		if len(processes[c.Name]) == 0 {
			found = append(found, Obstacle{fmt.Sprintf("container %s of pod %s does not run", c.Name, pod), "start it, or remove the pod"})
			continue
		}
		if owners, err := r.owners(pod, c.Name); err != nil {
			return nil, err
		} else if len(owners) > 1 && !mayReadLimits() {
			found = append(found, Obstacle{"container " + c.Name + ": " + manyOwners(owners), "give the agent CAP_SYS_RESOURCE, or run the container as one user"})
		}
		task, err := r.task(ctx, pod, c.Name)
		if err != nil {
			return nil, err
		}
		look := examiner{container: c.Name, init: int(task.Pid()), own: processes[c.Name]}
		if err := look.examine(); err != nil {
			return nil, err
		}
		found = append(found, look.found...)
	}
	return found, nil
}

// examiner looks at the processes of one container.
type examiner struct {
	container string
	init      int
	own       []int
	found     []Obstacle
}

func (e *examiner) examine() error {
	for _, pid := range e.own {
		err := errors.Join(e.parent(pid), e.files(pid), e.mounts(pid))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended meanwhile
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *examiner) say(pid int, remedy, format string, args ...any) {
	o := Obstacle{fmt.Sprintf("container %s, process %d: %s", e.container, pid, fmt.Sprintf(format, args...)), remedy}
	if !slices.Contains(e.found, o) {
		e.found = append(e.found, o)
	}
}

// parent finds processes that came in from outside, which have no parent in the container.
func (e *examiner) parent(pid int) error {
	data, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return nil
	}
	if fields[0] == "T" {
		e.say(pid, "let it go on (SIGCONT), or end it", "is stopped, and CRIU would wait for it for ever")
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return err
	}
	if pid != e.init && !slices.Contains(e.own, parent) && parent != e.init {
		e.say(pid, "wait until it has ended, or end it", "came in through exec")
	}
	return nil
}

// harmless are the devices that every container has.
var harmless = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts/ptmx"}

func (e *examiner) files(pid int) error {
	entries, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		target, err := os.Readlink(procPath(pid, "fd", entry.Name()))
		if err != nil {
			continue
		}
		switch {
		case strings.HasPrefix(target, "anon_inode:[io_uring]"):
			e.say(pid, "have the program use epoll", "has an io_uring, which CRIU cannot checkpoint")
		case strings.HasPrefix(target, "/dev/pts/"), strings.HasPrefix(target, "/dev/shm/"), strings.HasPrefix(target, "/dev/mqueue/"), slices.Contains(harmless, target):
		case strings.HasPrefix(target, "/dev/"):
			e.say(pid, "have the program close it", "has device %s open", target)
		}
	}
	return nil
}

// movable are the file systems that a container may have mounted.
var movable = []string{"overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "ext4", "ext3", "ext2", "xfs", "btrfs", "zfs", "f2fs", "nfs", "nfs4", "ceph", "9p", "virtiofs", "fuse.glusterfs", "bcachefs"}

func (e *examiner) mounts(pid int) error {
	if pid != e.init {
		return nil
	}
	if err := e.multipath(pid); err != nil {
		return err
	}
	file, err := os.Open(procPath(pid, "mountinfo"))
	if err != nil {
		return err
	}
	defer file.Close()
	infos, err := mountinfo.GetMountsFromReader(file, nil)
	if err != nil {
		return err
	}
	for _, info := range infos {
		// What hides parts of /proc and /sys is bound from the host's /dev, and there on every host.
		hides := strings.HasPrefix(info.Mountpoint, "/proc/") || strings.HasPrefix(info.Mountpoint, "/sys/")
		if !hides && !slices.Contains(movable, info.FSType) {
			e.say(pid, "take it out of the pod's volumes", "has a %s mounted at %s", info.FSType, info.Mountpoint)
		}
	}
	return nil
}

// multipath finds sockets of Multipath TCP, which CRIU does not know. The pod shares one network namespace, so one look at
// its table tells of all.
func (e *examiner) multipath(pid int) error {
	data, err := os.ReadFile(procPath(pid, "net", "protocols"))
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 2 && strings.HasPrefix(fields[0], "MPTCP") && fields[2] != "0" && fields[2] != "-1" {
			e.say(pid, "have the program use plain TCP; Go programs do with GODEBUG=multipathtcp=0", "has %s sockets of Multipath TCP, which CRIU cannot checkpoint", fields[2])
		}
	}
	return nil
}

func procPath(pid int, parts ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, parts...)...)
}

// Memory is how many bytes of a pod CRIU would have to carry over: what is not backed by a file.
func (r *Runtime) Memory(pod string) (int64, error) {
	rec, err := r.Record(pod)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, c := range rec.Spec.Containers {
		bytes, err := containerMemory(r.containerCgroup(pod, c.Name))
		if err != nil {
			return 0, fmt.Errorf("memory of container %s of pod %s: %w", c.Name, pod, err)
		}
		total += bytes
	}
	return total, nil
}

func containerMemory(cgroup string) (int64, error) {
	path, keys := filepath.Join(cgroupRoot, "memory", cgroup, "memory.stat"), []string{"total_rss", "total_shmem"}
	if CgroupVersion() == 2 {
		path, keys = filepath.Join(cgroupRoot, cgroup, "memory.stat"), []string{"anon", "shmem"}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, line := range strings.Split(string(data), "\n") {
		key, value, _ := strings.Cut(line, " ")
		if slices.Contains(keys, key) {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

// AddressTaken names an address of the pod that another pod on this host has, or is empty.
func (r *Runtime) AddressTaken(_ context.Context, pod *drydockv1.PodSpec) (string, error) {
	names, err := r.Names()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if name == pod.Name {
			continue
		}
		other, err := r.Record(name)
		if err != nil {
			return "", err
		}
		for _, address := range pod.Addresses {
			if slices.Contains(other.Spec.Addresses, address) {
				return address + " (pod " + name + ")", nil
			}
		}
	}
	return "", nil
}
