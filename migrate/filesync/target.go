package filesync

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Target applies passes to a directory that is its own: a complete pass empties it first. Nothing outside the directory is
// touched, whatever the stream says. It is for one goroutine at a time.
type Target struct {
	root    int
	path    string
	session [16]byte
	next    uint64
	whole   bool // the last pass was applied to its end
	final   bool
}

// NewTarget opens the directory root, which exists. It needs Linux 5.8, /proc, and root's capabilities for all but plain
// entries of its own user.
func NewTarget(root string) (*Target, error) {
	fd, err := openRoot(root)
	if err != nil {
		return nil, err
	}
	return &Target{root: fd, path: root}, nil
}

// Close releases the directory.
func (t *Target) Close() error { return unix.Close(t.root) }

// Complete reports whether the directory holds a final pass whole.
func (t *Target) Complete() bool { return t.whole && t.final }

// Sync writes what was applied to the disk. Until then a power failure here loses writes that were safe at the source.
// After each pass it has the less to do inside the freeze.
func (t *Target) Sync() error {
	if err := syncFS(t.root); err != nil {
		return fmt.Errorf("sync %s: %w", t.path, err)
	}
	return nil
}

// Apply reads one pass from r, exactly to its end, and makes the directory follow. It stops between two records when ctx is
// done; to interrupt a read the caller closes r. The errors [ErrCut], [ErrCorrupt], [ErrUnsafe], [ErrVersion] and [ErrOrder]
// tell what is wrong with the stream. After any error but the last two, only a complete pass is taken: Reset the source.
func (t *Target) Apply(ctx context.Context, r io.Reader) (Stats, error) {
	stats, err := t.apply(ctx, newDecoder(r))
	if err != nil {
		return stats, fmt.Errorf("receive %s: %w", t.path, err)
	}
	return stats, nil
}

func (t *Target) apply(ctx context.Context, d *decoder) (Stats, error) {
	b, err := d.start()
	if err != nil {
		return Stats{}, err
	}
	complete := b.flags&flagComplete != 0
	switch {
	case complete && b.pass != 0 || b.flags&^(flagComplete|flagFinal) != 0:
		return Stats{}, corrupt("pass %d has flags %#x", b.pass, b.flags)
	case !complete && !t.whole:
		return Stats{}, fmt.Errorf("%w: pass %d builds on one that was not applied whole here: reset the source", ErrOrder, b.pass)
	case !complete && (b.session != t.session || b.pass != t.next):
		return Stats{}, fmt.Errorf("%w: pass %d does not follow the last one applied here: reset the source", ErrOrder, b.pass)
	}
	t.session, t.next, t.whole, t.final = b.session, b.pass+1, false, b.flags&flagFinal != 0
	if complete {
		if err := empty(ctx, t.root); err != nil {
			return Stats{}, err
		}
	}
	a := &applier{root: t.root, dir: -1, file: -1, stash: -1}
	end, err := a.run(ctx, d)
	err = errors.Join(err, a.close())
	if err != nil {
		return a.stats, err
	}
	t.whole = true
	return end, nil
}

// run applies records up to the trailer, and returns what that counts.
func (a *applier) run(ctx context.Context, d *decoder) (Stats, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Stats{}, err
		}
		r, err := d.next()
		if err != nil {
			return Stats{}, err
		}
		if r.op == opEnd {
			return r.trailer.stats, a.finish(r.trailer.stats)
		}
		if err := a.apply(r); err != nil {
			return Stats{}, err
		}
	}
}

// empty removes all that is in the directory root, but refuses to reach into another file system.
func empty(ctx context.Context, root int) error {
	fd, err := openBeneath(root, "", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open the directory to empty it: %w", err)
	}
	defer unix.Close(fd)
	names, err := readNames(fd, make([]byte, 64<<10))
	if err != nil {
		return fmt.Errorf("list the directory to empty it: %w", err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := unix.Unlinkat(fd, name, 0)
		if errors.Is(err, unix.EISDIR) {
			if err = emptySub(ctx, fd, name); err == nil {
				err = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
			}
		}
		if err != nil {
			return fmt.Errorf("remove %q: %w", name, err)
		}
	}
	return nil
}

func emptySub(ctx context.Context, dir int, name string) error {
	fd, err := resolve(dir, name, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("it is a mount point: unmount it: %w", err)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return empty(ctx, fd)
}
