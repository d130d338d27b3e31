package pods

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// EndRepair makes the connections of a pod usable again that a CRIU which was killed in a dump has left in the kernel's
// repair mode: reading from such a socket fails with EPERM, and closing it tells the peer nothing. Call it before the pod is
// thawed.
func (r *Runtime) EndRepair(pod string) error {
	processes, err := r.Processes(pod)
	if err != nil {
		return err
	}
	for container, pids := range processes {
		for _, pid := range pids {
			if err := endRepair(pid); err != nil {
				return fmt.Errorf("connections of container %s of pod %s: %w", container, pod, err)
			}
		}
	}
	return nil
}

func endRepair(pid int) error {
	dir := procPath(pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreEnded(err)
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return ignoreEnded(err)
	}
	defer unix.Close(process)
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if err := endRepairOf(process, fd); err != nil {
			return ignoreEnded(err)
		}
	}
	return nil
}

// endRepairOf looks at one socket of a process. Those that know no repair mode, which are all but TCP's, are left alone.
func endRepairOf(process, fd int) error {
	socket, err := unix.PidfdGetfd(process, fd, 0)
	if errors.Is(err, unix.EBADF) {
		return nil // it was closed meanwhile
	}
	if err != nil {
		return fmt.Errorf("get a socket: %w", err)
	}
	defer unix.Close(socket)
	repair, err := unix.GetsockoptInt(socket, unix.IPPROTO_TCP, unix.TCP_REPAIR)
	if err != nil || repair != unix.TCP_REPAIR_ON {
		return nil
	}
	if err := unix.SetsockoptInt(socket, unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_OFF); err != nil {
		return fmt.Errorf("end the repair mode of a socket: %w", err)
	}
	return nil
}

func ignoreEnded(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
