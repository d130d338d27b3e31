package filesync

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Usage returns what the tree at root takes up: bytes allocated, and inodes, the root included. What vanishes meanwhile is
// not counted, and nothing beyond root's own file system is.
func Usage(root string) (bytes int64, files int, err error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("open directory %s: %w", root, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, fmt.Errorf("stat %s: %w", root, err)
	}
	u := usage{dev: st.Dev, buf: make([]byte, 64<<10), seen: make(map[uint64]bool)}
	u.count(&st)
	if err := u.walk(fd); err != nil {
		return 0, 0, fmt.Errorf("measure %s: %w", root, err)
	}
	return u.bytes, u.files, nil
}

type usage struct {
	dev   uint64
	buf   []byte
	seen  map[uint64]bool // inodes with several names
	bytes int64
	files int
}

func (u *usage) count(st *unix.Stat_t) {
	u.bytes += st.Blocks * 512
	u.files++
}

func (u *usage) walk(fd int) error {
	names, err := readNames(fd, u.buf)
	if err != nil && !isGone(err) {
		return err
	}
	for _, name := range names {
		if err := u.entry(fd, name); err != nil && !isGone(err) {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

func (u *usage) entry(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if st.Dev != u.dev || !dir && st.Nlink > 1 && u.seen[st.Ino] {
		return nil
	}
	u.count(&st)
	if !dir {
		if st.Nlink > 1 {
			u.seen[st.Ino] = true
		}
		return nil
	}
	sub, err := openDir(fd, name)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	return u.walk(sub)
}
