// Package turn waits until nobody else works on a host's packages, and says who does.
package turn

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"drydock/patch"

	"golang.org/x/sys/unix"
)

const (
	patience = 30 * time.Minute
	lookIn   = 500 * time.Millisecond
)

// Await waits until nobody holds what holder looks at, which says in words who does, and is empty where nobody does. The words are
// told. It waits no longer than longest, half an hour where that is 0.
func Await(ctx context.Context, longest time.Duration, holder func() (string, error), tell func(activity string)) error {
	longest = cmp.Or(longest, patience)
	deadline := time.Now().Add(longest)
	for {
		who, err := holder()
		if err != nil || who == "" {
			return err
		}
		if time.Now().After(deadline) {
			return patch.Refuse("see what it is doing, or end it, then try again", "%s for longer than %s", who, longest)
		}
		tell("waits: " + who)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookIn):
		}
	}
}

// Locked says who holds one of these files' locks. Those are POSIX locks, of which the kernel knows the process.
func Locked(paths ...string) (string, error) {
	for _, path := range paths {
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
			return Holds(int(held.Pid), path), nil
		}
	}
	return "", nil
}

// Holds says in words that a process holds a lock.
func Holds(pid int, lock string) string { return fmt.Sprintf("%s holds %s", process(pid), lock) }

// process is a process's command line and number.
func process(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	const most = 100
	text := bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '})
	return fmt.Sprintf("%.*s (process %d)", most, text, pid)
}
