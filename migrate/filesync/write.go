package filesync

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// open makes the regular file at base the one that content records are about. It is looked at before it is opened: opening
// a device or a FIFO has effects.
func (a *applier) open(dir int, base string, r *record) error {
	fd, st, err := hold(dir, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if st.kind() != unix.S_IFREG {
		return fmt.Errorf("%w: content for what is no regular file", ErrUnsafe)
	}
	if a.file, err = unix.Open(handlePath(fd), unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		a.file = -1
		return err
	}
	a.filePath, a.fileSize = r.path, r.size
	if st.size == r.size {
		return nil
	}
	return unix.Ftruncate(a.file, r.size)
}

func (a *applier) closeFile() error {
	if a.file < 0 {
		return nil
	}
	err := unix.Close(a.file)
	a.file = -1
	if err != nil {
		return fmt.Errorf("close %q: %w", a.filePath, err)
	}
	return nil
}

func (a *applier) content(r *record) error {
	if a.file < 0 {
		return corrupt("content comes for no file")
	}
	err := a.write(r)
	if err != nil {
		return fmt.Errorf("write to %q at %d: %w", a.filePath, r.offset, err)
	}
	return nil
}

func (a *applier) write(r *record) error {
	if r.op == opHole {
		if r.size == 0 || r.offset > a.fileSize || r.size > a.fileSize-r.offset {
			return corrupt("a hole reaches beyond the end")
		}
		return a.punch(r.offset, r.size)
	}
	last := r.segments[len(r.segments)-1]
	if r.offset > a.fileSize || int64(last.offset+last.length) > a.fileSize-r.offset {
		return corrupt("a block reaches beyond the end")
	}
	a.stats.Bytes += int64(len(r.data))
	if len(r.data) < blockSize {
		if size := min(blockSize, a.fileSize-r.offset); size > int64(len(r.data)) {
			if err := a.punch(r.offset, size); err != nil {
				return err
			}
		}
	}
	data := r.data
	for _, s := range r.segments {
		if err := writeAt(a.file, data[:s.length], r.offset+int64(s.offset)); err != nil {
			return err
		}
		data = data[s.length:]
	}
	return nil
}

func writeAt(fd int, data []byte, offset int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

// punch makes a hole, or zeros where the file system has no holes. At the end of the file it goes on to the end of the
// block: a file system frees only whole blocks of its own.
func (a *applier) punch(offset, size int64) error {
	whole := size
	if offset+size == a.fileSize {
		whole = (size + blockSize - 1) / blockSize * blockSize
	}
	err := unix.Fallocate(a.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, whole)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	zeros := make([]byte, blockSize)
	for size > 0 {
		n := min(size, blockSize)
		if err := writeAt(a.file, zeros[:n], offset); err != nil {
			return err
		}
		offset, size = offset+n, size-n
	}
	return nil
}
