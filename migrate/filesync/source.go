package filesync

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Stats counts one pass. Those that a [PassOptions].Progress gets are of the pass so far.
type Stats struct {
	Entries    int   `json:"entries"`     // inodes in the tree, its root included
	Changed    int   `json:"changed"`     // of these, sent again in part or whole
	Removed    int   `json:"removed"`     // names
	Unsettled  int   `json:"unsettled"`   // entries that changed too recently: the next pass examines them again
	Bytes      int64 `json:"bytes"`       // of file content that were sent
	BytesSaved int64 `json:"bytes_saved"` // of file content that the target had already
}

// PassOptions says how to make a pass.
type PassOptions struct {
	// Final is for a tree that stands still: an entry that changes while it is read is an error.
	Final bool
	// Sync writes the whole file system back before the pass, which makes stores through shared mappings visible to later
	// passes. It may take long. See the package comment.
	Sync bool
	// Progress, when not nil, is called now and then, and when the pass is done.
	Progress func(Stats)
}

// Source remembers what it has sent of a tree, and sends what changed since. It is for one goroutine at a time.
type Source struct {
	root    int
	path    string
	traced  bool // see package comment
	session [16]byte
	pass    uint64
	tree    *tree // nil: the next pass is a complete one
}

// NewSource opens the tree at root. It needs Linux 5.8, /proc and, to see all that a tree has, root's capabilities.
func NewSource(root string) (*Source, error) {
	fd, err := openRoot(root)
	if err != nil {
		return nil, err
	}
	traced, err := tracesStores(fd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("file system of %s: %w", root, err), unix.Close(fd))
	}
	return &Source{root: fd, path: root, traced: traced}, nil
}

func openRoot(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open directory %s: %w", path, err)
	}
	return fd, nil
}

// Close releases the tree.
func (s *Source) Close() error { return unix.Close(s.root) }

// Reset makes the next pass a complete one, as is needed when the target may not have applied the last one whole.
func (s *Source) Reset() { s.tree = nil }

// Pass writes to w what changed since the last pass: everything in the first one, and in the first after an error or a
// Reset. An entry that changes or vanishes while a pass that is not final reads it is no error, and settled by a later pass.
func (s *Source) Pass(ctx context.Context, w io.Writer, o PassOptions) (Stats, error) {
	p := &pass{s: s, o: o, began: time.Now(), enc: newEncoder(w), block: make([]byte, blockSize)}
	old := s.tree
	s.tree = nil
	now, err := p.run(ctx, old)
	if err != nil {
		return p.stats, fmt.Errorf("send %s: %w", s.path, err)
	}
	s.tree = now
	s.pass++
	if o.Progress != nil {
		o.Progress(p.stats)
	}
	return p.stats, nil
}

// pass is the work of one Pass.
type pass struct {
	s      *Source
	o      PassOptions
	began  time.Time
	ticked time.Time
	enc    *encoder
	stats  Stats
	block  []byte
	stash  uint64
	diff   *diff
	tree   *tree
}

func (p *pass) run(ctx context.Context, old *tree) (*tree, error) {
	b := begin{session: p.s.session, pass: p.s.pass}
	if old == nil {
		rand.Read(p.s.session[:])
		p.s.pass = 0
		b = begin{session: p.s.session, flags: flagComplete}
	}
	if p.o.Final {
		b.flags |= flagFinal
	}
	if err := p.enc.start(b); err != nil {
		return nil, err
	}
	if p.o.Sync {
		if err := syncFS(p.s.root); err != nil {
			return nil, err
		}
	}
	now, err := walk(ctx, p.s.root, old, p.o.Final)
	if err != nil {
		return nil, err
	}
	p.tree, p.stats.Entries = now, len(now.nodes)
	p.diff = compare(old, now)
	for _, step := range []func(context.Context) error{p.takeAway, p.bringDirs, p.bringFiles, p.settleFiles, p.settleDirs} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	forget(now)
	return now, p.enc.end(p.stats)
}

// forget drops what only one pass needs, the tree before it above all.
func forget(t *tree) {
	for _, n := range t.nodes {
		*n = node{obj: n.obj, st: n.st, entries: n.entries}
	}
}

func syncFS(root int) error {
	fd, err := openBeneath(root, "", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open the root: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("write the file system back: %w", err)
	}
	return nil
}

func (p *pass) tick() {
	if p.o.Progress == nil {
		return
	}
	if now := time.Now(); now.Sub(p.ticked) >= 100*time.Millisecond {
		p.ticked = now
		p.o.Progress(p.stats)
	}
}

func (p *pass) count(n *node) {
	if !n.counted {
		n.counted = true
		p.stats.Changed++
	}
}

// takeAway removes the old names; what has a new one is put aside.
func (p *pass) takeAway(context.Context) error {
	for _, g := range p.diff.gone {
		r := record{op: opRemove, path: g.path}
		n := g.node.next
		switch {
		case n != nil && !n.kept && n.stash == 0:
			p.stash++
			n.stash = p.stash
			r.op, r.number = opStash, n.stash
			p.tree.root.touched = true // the target puts things aside in its root
		case g.node.isDir():
			r.op = opRmdir
		}
		if r.op != opStash {
			p.stats.Removed++
		}
		if g.dir.next != nil {
			g.dir.next.touched = true
		}
		if err := p.enc.emit(&r); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) bringDirs(ctx context.Context) error  { return p.bring(ctx, p.diff.dirs) }
func (p *pass) bringFiles(ctx context.Context) error { return p.bring(ctx, p.diff.files) }

// bring gives nodes their new names.
func (p *pass) bring(ctx context.Context, names []name) error {
	for i, a := range names {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		n := a.node
		r := record{path: a.path}
		switch {
		case n.stash != 0 && !n.kept:
			r.op, r.number = opPlace, n.stash
		case !n.isDir() && (n.kept || n.parent != nil):
			r.op, r.other = opLink, n.path()
		default:
			n.create(&r)
		}
		if r.op != opLink {
			n.parent, n.name, n.kept = a.dir, baseName(a.path), true
		}
		a.dir.touched, n.touched = true, true
		p.count(n)
		if err := p.enc.emit(&r); err != nil {
			return err
		}
	}
	return nil
}

func baseName(path string) string {
	_, base := splitPath(path)
	return base
}

// create fills in the record that makes an inode of n's kind.
func (n *node) create(r *record) {
	n.obj.fresh = false
	n.obj.unsure = true
	switch n.st.kind() {
	case unix.S_IFDIR:
		r.op = opMkdir
	case unix.S_IFREG:
		r.op = opCreate
	case unix.S_IFLNK:
		r.op, r.other = opSymlink, n.obj.link
	default:
		r.op, r.mode, r.number = opNode, n.st.kind(), n.st.rdev
	}
}
