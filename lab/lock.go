package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lock takes the lock called what, waiting until ctx ends. The lock files are part of the cache, so that holding one
// needs nothing of a lab; the kernel gives a lock back when its holder dies. A holder may remove the file.
func lock(ctx context.Context, what string) (unlock func(), err error) {
	if err := os.MkdirAll(cacheTop, 0o755); err != nil {
		return nil, fmt.Errorf("lock %s: %w", what, err)
	}
	for {
		f, err := tryLock(lockFile(what))
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", what, err)
		}
		if f != nil {
			return func() { f.Close() }, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, fmt.Errorf("%s is held by another drydock command: %w", lockFile(what), err)
		}
	}
}

// tryLock returns the locked file, or none if somebody else has it, or had it and removed it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		mine, merr := f.Stat()
		there, terr := os.Stat(path)
		if merr == nil && terr == nil && os.SameFile(mine, there) {
			return f, nil
		}
	}
	f.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
		return nil, err
	}
	return nil, nil
}

func lockFile(what string) string { return filepath.Join(cacheTop, what+".lock") }

// lock keeps every other command from changing the lab.
func (l *Lab) lock(ctx context.Context) (unlock func(), err error) { return lock(ctx, l.lockName()) }

func (l *Lab) lockName() string { return "lab-" + l.name }
