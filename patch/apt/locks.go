package apt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"drydock/patch"

	"golang.org/x/sys/unix"
)

const (
	patience = 30 * time.Minute
	lookIn   = 500 * time.Millisecond
)

// installing are the locks of those that install, downloading of those that fetch packages or lists.
func (p paths) installing() []string {
	return []string{filepath.Join(p.admin, "lock-frontend"), filepath.Join(p.admin, "lock")}
}

func (p paths) downloading() []string {
	return []string{filepath.Join(p.archives, "lock"), filepath.Join(p.lists, "lock")}
}

// turn waits until nobody holds one of the locks, and tells who does. apt and dpkg hold them by POSIX, so that the kernel knows
// the process.
func (a *Apt) turn(ctx context.Context, locks []string, tell func(activity string)) error {
	deadline := time.Now().Add(cmp.Or(a.Patience, patience))
	for {
		holder, err := holderOf(locks)
		if err != nil || holder == "" {
			return err
		}
		if time.Now().After(deadline) {
			return patch.Refuse("see what it is doing, or end it, then try again", "%s for longer than %s", holder, cmp.Or(a.Patience, patience))
		}
		tell("waits: " + holder)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookIn):
		}
	}
}

// holderOf says in words who holds one of the locks; empty where nobody does.
func holderOf(locks []string) (string, error) {
	for _, path := range locks {
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		held := unix.Flock_t{Type: unix.F_WRLCK}
		err = errors.Join(unix.FcntlFlock(file.Fd(), unix.F_GETLK, &held), file.Close())
		if err != nil {
			return "", fmt.Errorf("lock %s: %w", path, err)
		}
		if held.Type != unix.F_UNLCK {
			return fmt.Sprintf("%s holds %s", processName(int(held.Pid)), path), nil
		}
	}
	return "", nil
}

// processName is a process's command line and number.
func processName(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	const most = 100
	text := bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '})
	return fmt.Sprintf("%.*s (process %d)", most, text, pid)
}
