package filesync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// settleFiles examines all that is no directory and may have changed.
func (p *pass) settleFiles(ctx context.Context) error {
	for _, n := range p.diff.nodes {
		hidden := !p.s.traced && n.st.kind() == unix.S_IFREG
		if n.st == n.obj.seen && !n.obj.unsure && !hidden {
			p.stats.BytesSaved += n.obj.held
			continue
		}
		if err := p.settle(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// settleDirs comes last, and goes from the inside out: what is done in a directory changes its mtime.
func (p *pass) settleDirs(ctx context.Context) error {
	for i := len(p.diff.tops) - 1; i >= 0; i-- {
		n := p.diff.tops[i]
		if n.st == n.obj.seen && !n.obj.unsure && !n.touched {
			continue
		}
		if err := p.settle(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// settle examines one node and sends what the target lacks of it.
func (p *pass) settle(ctx context.Context, n *node) error {
	path := n.path()
	fd, st, err := p.hold(n, path)
	switch {
	case err == nil:
		err = p.examine(ctx, n, path, fd, st)
		unix.Close(fd)
	case isGone(err) && !p.o.Final:
		n.obj.unsure, n.obj.meta, err = true, nil, nil // what was done in a directory has changed its mtime
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", path, err)
	}
	if n.obj.unsure {
		p.stats.Unsettled++
	}
	p.tick()
	return nil
}

// hold returns a handle of n, if it is still at path, and its stat. A handle opens nothing: no device or FIFO notices.
func (p *pass) hold(n *node, path string) (int, stat, error) {
	fd, err := openBeneath(p.s.root, path, unix.O_PATH)
	if err != nil {
		return -1, stat{}, err
	}
	st, err := statHandle(fd)
	if err == nil && !st.same(n.st) {
		err = errMoved
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, st, err
}

// examine compares what fd is a handle of with what the target holds. The stat st was taken before everything else is
// read: what changes later has a later ctime.
func (p *pass) examine(ctx context.Context, n *node, path string, fd int, st stat) error {
	meta, err := readMeta(fd, st)
	if err != nil {
		return err
	}
	written := false
	if st.kind() == unix.S_IFREG {
		if written, err = p.sendContent(ctx, path, fd, n.obj, st.size); err != nil {
			return err
		}
	}
	encoded := meta.append(nil)
	if written || n.touched || !bytes.Equal(encoded, n.obj.meta) {
		p.count(n)
		if err := p.enc.emit(&record{op: opMeta, path: path, meta: encoded}); err != nil {
			return err
		}
	}
	if p.o.Final {
		if after, err := statHandle(fd); err != nil || after != st {
			return errors.Join(errors.New("it changes during the final pass: stop whatever writes to it"), err)
		}
	}
	n.st = st
	n.obj.seen, n.obj.meta, n.obj.unsure = st, encoded, p.recent(st.ctime)
	return nil
}

func statHandle(fd int) (stat, error) {
	var raw unix.Stat_t
	err := unix.Fstat(fd, &raw)
	return newStat(&raw), err
}

// recent reports whether something else may have changed under the same time stamp, or may do so still. Stamps come from a
// clock that ticks every few milliseconds, or every one or two seconds where the file system keeps no more.
func (p *pass) recent(ctime unix.Timespec) bool {
	margin := 50 * time.Millisecond
	if ctime.Nsec == 0 {
		margin = 3 * time.Second
	}
	return !time.Unix(ctime.Unix()).Before(p.began.Add(-margin))
}
