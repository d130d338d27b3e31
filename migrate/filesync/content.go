package filesync

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// block is one block of a file at the target, by its index and the sum of its content. A block without data has none.
type block struct {
	index int64
	sum   [sha256.Size]byte
}

// contentPass brings the content of one regular file up to date at the target.
type contentPass struct {
	ctx   context.Context
	s     *pass
	path  string
	obj   *object
	size  int64
	file  *os.File
	old   []block // not yet passed
	now   []block
	held  int64
	begun bool // the target knows which file this is about

	index    int64 // of the block being collected
	segments []segment
	data     []byte
}

// sendContent compares the file behind the handle fd with what the target holds, and sends the blocks that differ. It
// reports whether it sent anything.
func (p *pass) sendContent(ctx context.Context, path string, fd int, obj *object, size int64) (bool, error) {
	c := &contentPass{ctx: ctx, s: p, path: path, obj: obj, size: size, old: obj.blocks, data: p.block[:0]}
	if size != obj.size {
		if err := c.begin(); err != nil {
			return false, err
		}
	}
	if size > 0 {
		file, err := reopen(fd)
		if err != nil {
			return c.begun, err
		}
		defer file.Close()
		c.file = file
		if err := c.extents(); err != nil {
			return c.begun, err
		}
	}
	if err := c.holes(1 << 62); err != nil {
		return c.begun, err
	}
	obj.blocks, obj.size, obj.held = c.now, size, c.held
	return c.begun, nil
}

func reopen(fd int) (*os.File, error) {
	path := handlePath(fd)
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		file, err = os.OpenFile(path, os.O_RDONLY, 0)
	}
	return file, err
}

func (c *contentPass) begin() error {
	if c.begun {
		return nil
	}
	c.begun = true
	return c.s.enc.emit(&record{op: opFile, path: c.path, size: c.size})
}

// extents goes through the file's runs of data.
func (c *contentPass) extents() error {
	fd := int(c.file.Fd())
	for end := int64(0); end < c.size; {
		start, err := unix.Seek(fd, end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return fmt.Errorf("find data after %d: %w", end, err)
		}
		if end, err = unix.Seek(fd, start, unix.SEEK_HOLE); errors.Is(err, unix.ENXIO) {
			break // cut off meanwhile
		}
		if err != nil {
			return fmt.Errorf("find a hole after %d: %w", start, err)
		}
		for end = min(end, c.size); start < end; {
			stop := min(end, (start/blockSize+1)*blockSize)
			whole, err := c.segment(start, stop)
			if err != nil {
				return err
			}
			if !whole {
				return c.flush()
			}
			start = stop
		}
	}
	return c.flush()
}

// segment reads a run of data within one block. It reports false where the file ends before its time.
func (c *contentPass) segment(start, stop int64) (bool, error) {
	if index := start / blockSize; index != c.index {
		if err := c.flush(); err != nil {
			return false, err
		}
		c.index = index
	}
	mark := len(c.data)
	n, err := c.file.ReadAt(c.data[mark:mark+int(stop-start)], start)
	if n > 0 {
		c.data = c.data[:mark+n]
		c.segments = append(c.segments, segment{uint32(start % blockSize), uint32(n)})
	}
	if n == int(stop-start) {
		return true, nil
	}
	if isEOF(err) {
		return false, nil
	}
	return false, fmt.Errorf("read at %d: %w", start, err)
}

// flush sends the block that was collected, if the target has another one.
func (c *contentPass) flush() error {
	if len(c.segments) == 0 {
		return nil
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if err := c.holes(c.index); err != nil {
		return err
	}
	b := block{c.index, blockSum(c.segments, c.data)}
	c.held += int64(len(c.data))
	c.now = append(c.now, b)
	known := len(c.old) > 0 && c.old[0] == b
	if len(c.old) > 0 && c.old[0].index == b.index {
		c.old = c.old[1:]
	}
	if known {
		c.s.stats.BytesSaved += int64(len(c.data))
	} else if err := c.send(b.sum); err != nil {
		return err
	}
	c.segments, c.data = c.segments[:0], c.data[:0]
	c.s.tick()
	return nil
}

func (c *contentPass) send(sum [sha256.Size]byte) error {
	if err := c.begin(); err != nil {
		return err
	}
	c.s.stats.Bytes += int64(len(c.data))
	return c.s.enc.emit(&record{op: opData, offset: c.index * blockSize, segments: c.segments, sum: sum, data: c.data})
}

// holes punches what the target has before the block index and the source has not.
func (c *contentPass) holes(index int64) error {
	for len(c.old) > 0 && c.old[0].index < index {
		start := c.old[0].index
		stop := start
		for len(c.old) > 0 && c.old[0].index == stop && stop < index {
			c.old, stop = c.old[1:], stop+1
		}
		size := min(stop*blockSize, c.size) - start*blockSize
		if size <= 0 {
			continue // cut off
		}
		if err := c.begin(); err != nil {
			return err
		}
		if err := c.s.enc.emit(&record{op: opHole, offset: start * blockSize, size: size}); err != nil {
			return err
		}
	}
	return nil
}
