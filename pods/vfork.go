package pods

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A thread that made a child with vfork does nothing until the child has started its program. The freezer takes both as they are,
// and CRIU then waits for the thread in vain: it cannot be stopped by a tracer before its child goes on, which is stopped. So such a
// pair is let run until the thread goes on, and frozen again.

const (
	// vforkWithin is how long a pod may take to come to a moment in which no thread waits so.
	vforkWithin = time.Second
	// vforkLook is how often a thread that is let run is looked at.
	vforkLook = 50 * time.Microsecond
)

// freezeWhole stops every process of the group, none of them between vfork and the start of its child's program.
func (c cgroup) freezeWhole(ctx context.Context) error {
	for end := time.Now().Add(vforkWithin); ; {
		if err := c.freeze(ctx); err != nil {
			return err
		}
		thread, err := c.vforking()
		if err != nil || thread == "" {
			return err
		}
		if err := c.thaw(ctx); err != nil {
			return err
		}
		for waits := true; waits; {
			if err := ctx.Err(); err != nil {
				return err
			}
			if time.Now().After(end) {
				return fmt.Errorf("thread %s of cgroup %s has made a child with vfork that starts no program: CRIU cannot dump the two; "+
					"move the pod when it has, or have the program use fork", thread, c.dir)
			}
			time.Sleep(vforkLook)
			if waits, err = inVfork(thread); err != nil {
				return err
			}
		}
	}
}

// vforking returns the directory of a thread of the frozen group that waits for its child; "": none does.
func (c cgroup) vforking() (string, error) {
	pids, err := c.pids()
	if err != nil {
		return "", fmt.Errorf("list the processes of cgroup %s: %w", c.dir, err)
	}
	for _, pid := range pids {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			return "", err
		}
		for _, thread := range threads {
			waits, err := inVfork(thread)
			if err != nil {
				return "", fmt.Errorf("see what a thread waits for: %w", err)
			}
			if waits {
				return thread, nil
			}
		}
	}
	return "", nil
}

// inVfork tells whether a thread is asleep in a call that makes a child and waits for it. See proc_pid_syscall(5): the
// call's number and its arguments.
func inVfork(thread string) (bool, error) {
	data, err := os.ReadFile(filepath.Join(thread, "syscall"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false, nil // it has ended
	}
	if err != nil {
		return false, err
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return false, nil // it runs, or is a zombie
	}
	number, err := strconv.Atoi(fields[0])
	if err != nil {
		return false, fmt.Errorf("%s/syscall: %w", thread, err)
	}
	argument, err := strconv.ParseUint(fields[1], 0, 64)
	if err != nil {
		return false, fmt.Errorf("%s/syscall: %w", thread, err)
	}
	switch number {
	case sysVfork:
		return true, nil
	case unix.SYS_CLONE:
		return argument&unix.CLONE_VFORK != 0, nil
	case unix.SYS_CLONE3:
		return cloneFlags(thread, argument)&unix.CLONE_VFORK != 0, nil
	}
	return false, nil
}

// cloneFlags reads the flags of clone3(2) from the thread's memory: they are its structure's first field. Where they cannot be read
// the call has failed, and waits for nobody.
func cloneFlags(thread string, address uint64) uint64 {
	memory, err := os.Open(filepath.Join(thread, "mem"))
	if err != nil {
		return 0
	}
	defer memory.Close()
	var flags [8]byte
	if _, err := memory.ReadAt(flags[:], int64(address)); err != nil {
		return 0
	}
	return binary.NativeEndian.Uint64(flags[:])
}
