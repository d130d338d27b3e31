package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeOffsets watches where open files are read next, their flags, and that a duplicate shares its offset with the original.
func makeOffsets(env environment) (func() error, error) {
	name := filepath.Join(env.dir, "offsets")
	want := pattern(3, 8192)
	if err := os.WriteFile(name, want, 0o600); err != nil {
		return nil, err
	}
	file, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	appending, err := unix.Open(name, unix.O_WRONLY|unix.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	twin, err := unix.FcntlInt(uintptr(file), unix.F_DUPFD, 100)
	if err != nil {
		return nil, err
	}
	offset := int64(1234)
	if _, err := unix.Seek(file, offset, unix.SEEK_SET); err != nil {
		return nil, err
	}
	flags, err := descriptors(file, appending, twin)
	return func() error {
		after, err := descriptors(file, appending, twin)
		if err != nil || after != flags {
			return fmt.Errorf("the descriptors' flags were %v and are %v: %v", flags, after, err)
		}
		for _, fd := range []int{file, twin} {
			if at, err := unix.Seek(fd, 0, unix.SEEK_CUR); err != nil || at != offset {
				return fmt.Errorf("the offset of descriptor %d was %d and is %d: %v", fd, offset, at, err)
			}
		}
		part := make([]byte, 10)
		if n, err := unix.Read(twin, part); err != nil || !bytes.Equal(part[:n], want[offset:offset+10]) {
			return fmt.Errorf("read at offset %d: %q, %v", offset, part, err)
		}
		offset += 10
		if offset+10 > int64(len(want)) {
			offset = 17
			_, err = unix.Seek(file, offset, unix.SEEK_SET)
		}
		return err
	}, err
}

// descriptors takes down the status and descriptor flags of three descriptors.
func descriptors(fds ...int) ([3][2]int, error) {
	var flags [3][2]int
	for i, fd := range fds {
		for j, command := range []int{unix.F_GETFL, unix.F_GETFD} {
			value, err := unix.FcntlInt(uintptr(fd), command, 0)
			if err != nil {
				return flags, fmt.Errorf("descriptor %d: %w", fd, err)
			}
			flags[i][j] = value
		}
	}
	return flags, nil
}

// makeDeletedFile watches the content of a file that has no name any more.
func makeDeletedFile(env environment) (func() error, error) {
	want := pattern(4, 256<<10)
	file, err := os.CreateTemp(env.dir, "deleted-")
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(want); err != nil {
		return nil, err
	}
	return func() error {
		var stat unix.Stat_t
		if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
			return err
		}
		if stat.Nlink != 0 || stat.Size != int64(len(want)) {
			return fmt.Errorf("it has %d names and %d bytes, not 0 and %d", stat.Nlink, stat.Size, len(want))
		}
		content := make([]byte, len(want))
		if _, err := file.ReadAt(content, 0); err != nil {
			return err
		}
		if !bytes.Equal(content, want) {
			return errors.New("its content changed")
		}
		return nil
	}, os.Remove(file.Name())
}

// makeLocks holds one lock of each kind, and verifies that a second description of the same file cannot have it.
func makeLocks(env environment) (func() error, error) {
	name := filepath.Join(env.dir, "locked")
	if err := os.WriteFile(name, make([]byte, 100), 0o600); err != nil {
		return nil, err
	}
	whole, err := unix.Open(name, unix.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	other, err := unix.Open(name, unix.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(whole, unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("flock: %w", err)
	}
	ofProcess := unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 20}
	if err := unix.FcntlFlock(uintptr(whole), unix.F_SETLK, &ofProcess); err != nil {
		return nil, fmt.Errorf("lock of the process: %w", err)
	}
	return func() error {
		if err := unix.Flock(other, unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("the flock is not held: a second one gave %v", err)
		}
		// To an open file description lock a lock of the process is a stranger, also of the own process.
		seen := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(uintptr(other), unix.F_OFD_GETLK, &seen); err != nil {
			return fmt.Errorf("look for the lock of the process: %w", err)
		}
		if seen.Type != unix.F_WRLCK || seen.Start != 10 || seen.Len != 20 || seen.Pid != int32(os.Getpid()) {
			return fmt.Errorf("the lock of the process is not as it was: %+v", seen)
		}
		return nil
	}, nil
}

// makeMaps watches memory of every kind: private, changed over a file, shared with a file, and read-only.
func makeMaps(env environment) (func() error, error) {
	const size = 64 << 10
	name := filepath.Join(env.dir, "mapped")
	inFile := pattern(5, size)
	if err := os.WriteFile(name, inFile, 0o600); err != nil {
		return nil, err
	}
	shared, err := mapFile(name, size, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	private, err := mapFile(name, size, unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	own, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	copy(own, pattern(6, size))
	copy(private[4096:8192], pattern(7, 4096)) // the file keeps its own
	if err := unix.Mprotect(own, unix.PROT_READ); err != nil {
		return nil, err
	}
	wantPrivate := bytes.Clone(private)
	return func() error {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		switch {
		case !bytes.Equal(content, inFile) || !bytes.Equal(shared, inFile):
			return errors.New("the shared mapping or its file changed")
		case !bytes.Equal(private, wantPrivate):
			return errors.New("the private mapping of the file changed")
		case !bytes.Equal(own, pattern(6, size)):
			return errors.New("the private memory changed")
		}
		shared[4096]++ // must be seen in the file, in the next round, and not in the page that the private mapping has copied
		inFile[4096] = shared[4096]
		return readOnly(own)
	}, nil
}

// readOnly verifies that memory cannot be written to, without writing to it: the kernel must refuse to read a file into it.
func readOnly(memory []byte) error {
	zero, err := unix.Open("/proc/self/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(zero)
	if _, err := unix.Read(zero, memory[:1]); !errors.Is(err, unix.EFAULT) {
		return fmt.Errorf("read-only memory is no longer that: writing gave %v", err)
	}
	return nil
}
