package filesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// stat is what tells a changed entry from an unchanged one. The number of links and the access time are left out: names
// are compared by themselves, and reading is no change.
type stat struct {
	ino            uint64
	mode, uid, gid uint32
	rdev           uint64
	size           int64
	mtime, ctime   unix.Timespec
}

func newStat(s *unix.Stat_t) stat {
	return stat{ino: s.Ino, mode: s.Mode, uid: s.Uid, gid: s.Gid, rdev: uint64(s.Rdev), size: s.Size, mtime: s.Mtim, ctime: s.Ctim}
}

func (s stat) kind() uint32 { return s.mode & unix.S_IFMT }

// same reports whether the two can be one inode at different times. A reused inode number passes: what it holds then
// differs from what was sent, which is seen like any other change.
func (s stat) same(t stat) bool {
	return s.ino == t.ino && s.kind() == t.kind() && s.rdev == t.rdev
}

// object is one inode of the source, with what the target holds of it.
type object struct {
	seen   stat   // when the target's copy was made
	fresh  bool   // not at the target yet
	unsure bool   // to be examined again, whatever its stat says
	link   string // of a symbolic link
	meta   []byte // as sent
	size   int64
	blocks []block
	held   int64 // bytes in blocks
}

// node is an object as one walk found it.
type node struct {
	obj     *object
	st      stat
	old     *node   // the same object in the tree before
	next    *node   // the same object in the tree after
	entries []entry // of a directory, by name

	parent *node // with name: where the target has it
	name   string

	kept    bool // under one of its old names
	visited bool
	touched bool // the target's directory is changed by this pass
	counted bool
	stash   uint64
}

type entry struct {
	name string
	node *node
}

func (n *node) isDir() bool { return n.st.kind() == unix.S_IFDIR }

func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	return joinPath(n.parent.path(), n.name)
}

type tree struct {
	root  *node
	nodes map[uint64]*node
}

// walker reads the names and stats of a tree. It does not open files.
type walker struct {
	ctx    context.Context
	dev    uint64
	strict bool // the tree must stand still
	old    *tree
	tree   *tree
	buf    []byte
}

// errMoved marks an entry that is no longer what it was a moment ago.
var errMoved = errors.New("it changed while it was read")

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.ESTALE) || errors.Is(err, errMoved)
}

// lost turns the disappearance of an entry into nothing, unless the tree must stand still.
func (w *walker) lost(path string, err error) error {
	if isGone(err) && !w.strict {
		return nil
	}
	return fmt.Errorf("read %q: %w", path, err)
}

// walk reads the tree below the open directory root. Objects of old that are found again carry over.
func walk(ctx context.Context, root int, old *tree, strict bool) (*tree, error) {
	size := 64
	if old != nil {
		size = len(old.nodes) + len(old.nodes)/8
	}
	w := &walker{
		ctx: ctx, strict: strict, old: old, buf: make([]byte, 64<<10),
		tree: &tree{nodes: make(map[uint64]*node, size)},
	}
	fd, err := openBeneath(root, "", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open the root: %w", err)
	}
	defer unix.Close(fd)
	var raw unix.Stat_t
	if err := unix.Fstat(fd, &raw); err != nil {
		return nil, fmt.Errorf("stat the root: %w", err)
	}
	w.dev = raw.Dev
	w.tree.root = w.adopt(newStat(&raw), "")
	return w.tree, w.list(fd, w.tree.root, "")
}

// adopt makes the node of an inode that was met for the first time in this walk.
func (w *walker) adopt(st stat, link string) *node {
	n := &node{st: st}
	if w.old != nil {
		if old := w.old.nodes[st.ino]; old != nil && old.st.same(st) && old.obj.link == link {
			n.obj, n.old, old.next = old.obj, old, n
		}
	}
	if n.obj == nil {
		n.obj = &object{fresh: true, link: link}
	}
	w.tree.nodes[st.ino] = n
	return n
}

func (w *walker) list(fd int, dir *node, path string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	names, err := readNames(fd, w.buf)
	if err != nil {
		return w.lost(path, err)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	dir.entries = make([]entry, 0, len(names))
	for _, name := range names {
		if err := w.entry(fd, dir, path, name); err != nil {
			return err
		}
	}
	return nil
}

func readNames(fd int, buf []byte) ([]string, error) {
	var names []string
	for {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func (w *walker) entry(fd int, dir *node, path, name string) error {
	var raw unix.Stat_t
	if err := unix.Fstatat(fd, name, &raw, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return w.lost(joinPath(path, name), err)
	}
	if raw.Dev != w.dev {
		return fmt.Errorf("%q is a mount point: unmount it, or move it as a volume of its own", joinPath(path, name))
	}
	st := newStat(&raw)
	if n := w.tree.nodes[st.ino]; n != nil {
		if n.isDir() || !n.st.same(st) { // renamed under our feet
			return w.lost(joinPath(path, name), errMoved)
		}
		dir.entries = append(dir.entries, entry{name, n})
		return nil
	}
	switch st.kind() {
	case unix.S_IFDIR:
		return w.subdir(fd, dir, path, name, st)
	case unix.S_IFLNK:
		link, err := w.readlink(fd, name, st)
		if err != nil {
			return w.lost(joinPath(path, name), err)
		}
		dir.entries = append(dir.entries, entry{name, w.adopt(st, link)})
	default:
		dir.entries = append(dir.entries, entry{name, w.adopt(st, "")})
	}
	return nil
}

func (w *walker) subdir(fd int, dir *node, path, name string, st stat) error {
	path = joinPath(path, name)
	if len(path) > maxPath-2*unix.NAME_MAX {
		return fmt.Errorf("directory %.60q... is nested too deeply: its path has %d bytes", path, len(path))
	}
	sub, err := openDir(fd, name)
	if err != nil {
		return w.lost(path, err)
	}
	defer unix.Close(sub)
	var raw unix.Stat_t
	if err := unix.Fstat(sub, &raw); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	if raw.Ino != st.ino || raw.Dev != w.dev {
		return w.lost(path, errMoved)
	}
	n := w.adopt(newStat(&raw), "")
	n.parent, n.name = dir, name
	dir.entries = append(dir.entries, entry{name, n})
	return w.list(sub, n, path)
}

// openDir opens a directory for listing, leaving its access time alone where that is allowed.
func openDir(fd int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	for {
		sub, err := unix.Openat(fd, name, flags|unix.O_NOATIME, 0)
		if errors.Is(err, unix.EPERM) {
			sub, err = unix.Openat(fd, name, flags, 0)
		}
		if !errors.Is(err, unix.EINTR) {
			return sub, err
		}
	}
}

// readlink returns the text of the link that st describes.
func (w *walker) readlink(fd int, name string, st stat) (string, error) {
	if w.old != nil {
		if old := w.old.nodes[st.ino]; old != nil && old.obj.seen == st && !old.obj.unsure {
			return old.obj.link, nil
		}
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, buf)
	if errors.Is(err, unix.EINVAL) {
		return "", errMoved
	}
	if err != nil {
		return "", err
	}
	var raw unix.Stat_t
	if err := unix.Fstatat(fd, name, &raw, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", err
	}
	if raw.Ino != st.ino {
		return "", errMoved
	}
	return string(buf[:n]), nil
}
