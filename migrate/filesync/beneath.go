package filesync

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPath bounds a path on the wire, in bytes. It is far above PATH_MAX: a program can nest deeper than that step by step.
const maxPath = 1 << 18

// openBeneath opens path, relative to the directory root, without following a symbolic link or leaving that directory and
// its file system. The empty path is root itself.
func openBeneath(root int, path string, flags int) (int, error) {
	const step = unix.PathMax - 256
	if path == "" {
		path = "."
	}
	dir := root
	for len(path) > step {
		cut := strings.LastIndexByte(path[:step], '/')
		if cut < 0 {
			break
		}
		next, err := resolve(dir, path[:cut], unix.O_PATH|unix.O_DIRECTORY)
		if dir != root {
			unix.Close(dir)
		}
		if err != nil {
			return -1, err
		}
		dir, path = next, path[cut+1:]
	}
	fd, err := resolve(dir, path, flags)
	if dir != root {
		unix.Close(dir)
	}
	return fd, err
}

func resolve(dir int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for range 64 {
		fd, err := unix.Openat2(dir, path, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// checkPath refuses a path that is not a plain relative one.
func checkPath(path string) error {
	if path == "" || len(path) > maxPath || strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("%w: path of %d bytes is empty, too long or holds a zero byte", ErrUnsafe, len(path))
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." || len(name) > unix.NAME_MAX {
			return fmt.Errorf("%w: %q is not a plain relative path", ErrUnsafe, path)
		}
	}
	return nil
}

func splitPath(path string) (dir, base string) {
	cut := strings.LastIndexByte(path, '/')
	if cut < 0 {
		return "", path
	}
	return path[:cut], path[cut+1:]
}

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// handlePath names an open handle (O_PATH included) for the calls that take only a path.
func handlePath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
