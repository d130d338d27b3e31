package pods

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errNotListening is returned where no process listens at a port.
var errNotListening = errors.New("nothing listens")

// listening borrows the socket with which one of the processes listens at a port: a descriptor of it, which the caller closes. The
// processes may be stopped.
func listening(pids []int, port uint16, six bool) (int, error) {
	for _, pid := range pids {
		fd, err := listeningOf(pid, port, six)
		if err == nil || !errors.Is(err, errNotListening) && !errors.Is(err, unix.ESRCH) && !errors.Is(err, os.ErrNotExist) {
			return fd, err
		}
	}
	return -1, fmt.Errorf("port %d: %w", port, errNotListening)
}

func listeningOf(pid int, port uint16, six bool) (int, error) {
	entries, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		return -1, err
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(process)
	for _, entry := range entries {
		target, err := os.Readlink(procPath(pid, "fd", entry.Name()))
		number, nerr := strconv.Atoi(entry.Name())
		if err != nil || nerr != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if errors.Is(err, unix.EBADF) {
			continue // it was closed meanwhile
		}
		if err != nil {
			return -1, fmt.Errorf("borrow a socket of process %d: %w", pid, err)
		}
		if listensAt(fd, port, six) {
			return fd, nil
		}
		_ = unix.Close(fd)
	}
	return -1, errNotListening
}

func listensAt(fd int, port uint16, six bool) bool {
	if accepts, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || accepts == 0 {
		return false
	}
	if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.IPPROTO_TCP {
		return false
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		return !six && at.Port == int(port)
	case *unix.SockaddrInet6:
		return six && at.Port == int(port)
	}
	return false
}
