package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CRIU reads the resource limits of every process that it dumps. The kernel lets it, with CAP_SYS_RESOURCE; without, as in
// many nested environments, only where the reader's real user and group are the process's own. So where the capability is
// missing, CRIU is started with the real ids of the container's processes; its effective ids, and with them all else that
// it may do, stay root's.

// asOwner is what to put before a command so that it may read the limits of a container's processes.
func (r *Runtime) asOwner(pod, container string) ([]string, error) {
	if mayReadLimits() {
		return nil, nil
	}
	owners, err := r.owners(pod, container)
	if err != nil {
		return nil, err
	}
	if len(owners) != 1 {
		return nil, fmt.Errorf("container %s of pod %s: %s", container, pod, manyOwners(owners))
	}
	if owners[0] == (ids{}) {
		return nil, nil
	}
	return []string{"setpriv", "--ruid", strconv.Itoa(owners[0].user), "--rgid", strconv.Itoa(owners[0].group), "--keep-groups"}, nil
}

// manyOwners says why processes of several users cannot be checkpointed here.
func manyOwners(owners []ids) string {
	return fmt.Sprintf("processes of %d users, whose limits cannot be read without CAP_SYS_RESOURCE", len(owners))
}

// mayReadLimits tells whether this process may read the limits of any other.
func mayReadLimits() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// ids are a process's user and group.
type ids struct{ user, group int }

// owners lists whom the processes of a container belong to, each once.
func (r *Runtime) owners(pod, container string) ([]ids, error) {
	pids, err := cgroupAt(r.containerCgroup(pod, container)).pids()
	if err != nil {
		return nil, fmt.Errorf("processes of container %s of pod %s: %w", container, pod, err)
	}
	var owners []ids
	for _, pid := range pids {
		owner, err := ownerOf(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	return owners, nil
}

func ownerOf(pid int) (ids, error) {
	var owner ids
	data, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return owner, err
	}
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "Uid:":
			owner.user, err = strconv.Atoi(fields[1])
		case "Gid:":
			owner.group, err = strconv.Atoi(fields[1])
		}
		if err != nil {
			return owner, fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return owner, nil
}
