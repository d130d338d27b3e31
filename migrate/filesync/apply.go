package filesync

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// applier carries out the records of one pass.
type applier struct {
	root  int
	stats Stats

	dir     int // handle of dirPath, the directory used last
	dirPath string

	file     int // being written
	filePath string
	fileSize int64

	stash     int // directory in root for what is put aside; its name cannot be guessed by who writes the stream
	stashName string
	stashed   map[uint64]bool
}

func (a *applier) apply(r *record) error {
	if r.op == opData || r.op == opHole {
		return a.content(r)
	}
	if err := a.closeFile(); err != nil {
		return err
	}
	if r.op == opBegin {
		return corrupt("it begins twice")
	}
	if r.op == opMeta && r.path == "" {
		return a.rootMeta(r)
	}
	if err := a.check(r.path); err != nil {
		return err
	}
	if err := a.entry(r); err != nil {
		return fmt.Errorf("apply to %q: %w", r.path, err)
	}
	return nil
}

func (a *applier) check(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if a.stash >= 0 && (path == a.stashName || strings.HasPrefix(path, a.stashName+"/")) {
		return fmt.Errorf("%w: %q is taken", ErrUnsafe, path)
	}
	return nil
}

func (a *applier) entry(r *record) error {
	dir, base, err := a.parent(r.path)
	if err != nil {
		return err
	}
	switch r.op {
	case opRemove:
		a.stats.Removed++
		return unix.Unlinkat(dir, base, 0)
	case opRmdir:
		a.stats.Removed++
		return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
	case opStash:
		return a.putAside(dir, base, r.number)
	case opPlace:
		return a.place(dir, base, r.number)
	case opMkdir:
		return unix.Mkdirat(dir, base, 0o700)
	case opCreate:
		fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	case opSymlink:
		return unix.Symlinkat(r.other, dir, base)
	case opNode:
		return makeNode(dir, base, r)
	case opLink:
		return a.link(r)
	case opFile:
		return a.open(dir, base, r)
	case opMeta:
		return a.meta(dir, base, r)
	}
	return corrupt("unknown operation %d", r.op)
}

func makeNode(dir int, base string, r *record) error {
	switch r.mode {
	case unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		return unix.Mknodat(dir, base, r.mode|0o600, int(r.number))
	}
	return corrupt("%q would be of kind %#o", r.path, r.mode)
}
