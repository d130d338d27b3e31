package filesync

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// parent returns a handle of the directory that path lies in, and the last part of path. The handle is good until the next
// call.
func (a *applier) parent(path string) (int, string, error) {
	dir, base := splitPath(path)
	if a.dir >= 0 && a.dirPath == dir {
		return a.dir, base, nil
	}
	a.forgetDir()
	fd, err := openBeneath(a.root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOTDIR) {
		return -1, "", fmt.Errorf("%w: %q leads through something else than directories of the target: %w", ErrUnsafe, dir, err)
	}
	if err != nil {
		return -1, "", fmt.Errorf("open directory %q: %w", dir, err)
	}
	a.dir, a.dirPath = fd, dir
	return fd, base, nil
}

func (a *applier) forgetDir() {
	if a.dir >= 0 {
		unix.Close(a.dir)
		a.dir = -1
	}
}

// putAside moves an entry to the stash. The handles of directories follow, so dir stays what it is, but not where it is.
func (a *applier) putAside(dir int, base string, number uint64) error {
	if a.stash < 0 {
		if err := a.openStash(); err != nil {
			return err
		}
	}
	if a.stashed[number] {
		return corrupt("number %d is put aside twice", number)
	}
	a.stashed[number] = true
	err := unix.Renameat2(dir, base, a.stash, strconv.FormatUint(number, 10), unix.RENAME_NOREPLACE)
	a.forgetDir()
	return err
}

func (a *applier) openStash() error {
	name := ".filesync-" + rand.Text()
	if err := unix.Mkdirat(a.root, name, 0o700); err != nil {
		return fmt.Errorf("make a directory for what moves: %w", err)
	}
	fd, err := openBeneath(a.root, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open the directory for what moves: %w", err)
	}
	a.stash, a.stashName, a.stashed = fd, name, make(map[uint64]bool)
	return nil
}

func (a *applier) place(dir int, base string, number uint64) error {
	if !a.stashed[number] {
		return corrupt("number %d was not put aside", number)
	}
	delete(a.stashed, number)
	err := unix.Renameat2(a.stash, strconv.FormatUint(number, 10), dir, base, unix.RENAME_NOREPLACE)
	a.forgetDir()
	return err
}

// link gives the entry r.other the second name r.path.
func (a *applier) link(r *record) error {
	if err := a.check(r.other); err != nil {
		return err
	}
	dir, base, err := a.parent(r.other)
	if err != nil {
		return err
	}
	from, err := unix.Openat(dir, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, name, err := a.parent(r.path)
	if err != nil {
		return err
	}
	return unix.Linkat(from, base, to, name, 0)
}

// hold returns a handle of an entry and its stat.
func hold(dir int, base string) (int, stat, error) {
	fd, err := resolve(dir, base, unix.O_PATH)
	if err != nil {
		return -1, stat{}, err
	}
	st, err := statHandle(fd)
	if err != nil {
		unix.Close(fd)
	}
	return fd, st, err
}

func (a *applier) meta(dir int, base string, r *record) error {
	m, err := parseMeta(r.meta)
	if err != nil {
		return err
	}
	fd, st, err := hold(dir, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if st.kind() != m.mode&unix.S_IFMT {
		return corrupt("it is of kind %#o, its metadata of kind %#o", st.kind(), m.mode&unix.S_IFMT)
	}
	return m.write(fd)
}

// rootMeta comes when nothing changes in the root any more.
func (a *applier) rootMeta(r *record) error {
	if err := a.closeStash(); err != nil {
		return err
	}
	if err := a.meta(a.root, ".", r); err != nil {
		return fmt.Errorf("apply to the root: %w", err)
	}
	return nil
}

func (a *applier) closeStash() error {
	if a.stash < 0 {
		return nil
	}
	unix.Close(a.stash)
	a.stash = -1
	if len(a.stashed) > 0 {
		return corrupt("%d entries were put aside and not brought back", len(a.stashed))
	}
	if err := unix.Unlinkat(a.root, a.stashName, unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("remove the directory for what moves: %w", err)
	}
	return nil
}

// finish checks that nothing is left undone, and that what was done is what the trailer counts.
func (a *applier) finish(s Stats) error {
	if a.stash >= 0 {
		return corrupt("it ends while entries are put aside")
	}
	if s.Removed != a.stats.Removed || s.Bytes != a.stats.Bytes {
		return corrupt("%d names were removed and %d bytes came, where it counts %d and %d", a.stats.Removed, a.stats.Bytes, s.Removed, s.Bytes)
	}
	return nil
}

func (a *applier) close() error {
	err := a.closeFile()
	a.forgetDir()
	if a.stash >= 0 {
		unix.Close(a.stash) // what is in it goes with the next pass, a complete one
		a.stash = -1
	}
	return err
}
