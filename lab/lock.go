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
// needs nothing of a lab; the kernel gives a lock back when its holder dies.
func lock(ctx context.Context, what string) (unlock func(), err error) {
	if err := os.MkdirAll(cacheTop, 0o755); err != nil {
		return nil, fmt.Errorf("lock %s: %w", what, err)
	}
	f, err := os.OpenFile(filepath.Join(cacheTop, what+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", what, err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", what, err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			f.Close()
			return nil, fmt.Errorf("%s is held by another drydock command: %w", f.Name(), err)
		}
	}
}

// lockLab keeps every other command from changing the lab.
func (l *Lab) lock(ctx context.Context) (unlock func(), err error) { return lock(ctx, "lab-"+l.name) }
