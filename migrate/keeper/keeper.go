// Package keeper runs CRIU's lazy-pages daemon for one container in post-copy, in a process of its own that outlives the
// agent.
//
// When the last copy of a userfaultfd closes, pages that have not arrived read as zeros, without any signal: a daemon that
// is killed corrupts the program that it serves. So the keeper holds a duplicate of every userfaultfd of the daemon. If the
// daemon ends early, the program's threads that touch a missing page stand still, and the pod is ended and reported.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Marks that a keeper leaves in its container's directory.
const (
	// Holding names how many userfaultfds are held.
	Holding = "holding"
	// Complete: every page has arrived.
	Complete = "pages-complete"
	// Lost: the daemon ended before every page had arrived. Missing pages never will.
	Lost = "pages-lost"
)

// lookAgain is how often the daemon's files are looked at. It must find a userfaultfd before the tasks that it belongs to
// can run, which is not before the agent has seen that it is held.
const lookAgain = 2 * time.Millisecond

// Run starts the daemon with the given arguments of criu and stays until every page has arrived, or, when they never will,
// until ctx ends. dir is where the marks go.
func Run(ctx context.Context, dir string, args []string) error {
	k := &keeper{dir: dir, held: make(map[int]int)}
	daemon := exec.Command("criu", args...)
	log, err := os.Create(filepath.Join(dir, "daemon.out"))
	if err != nil {
		return err
	}
	defer log.Close()
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return errors.Join(k.mark(Lost, err.Error()), fmt.Errorf("start criu %v: %w", args, err))
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	if err := k.watch(daemon.Process.Pid, ended); err != nil {
		// The duplicates stay open until the pod's tasks are gone: the agent ends this process then.
		merr := k.mark(Lost, err.Error())
		<-ctx.Done()
		return errors.Join(merr, fmt.Errorf("the lazy-pages daemon ended early: %w", err))
	}
	return k.mark(Complete, "")
}

type keeper struct {
	dir string
	// held are our duplicates, each with the daemon's number at which its open file was last seen. The number is where it is
	// looked for first; that it is the same open file is for the kernel to say.
	held  map[int]int
	total int // ever held
}

// watch duplicates what the daemon opens until the daemon ends.
func (k *keeper) watch(daemon int, ended <-chan error) error {
	pidfd, err := unix.PidfdOpen(daemon, 0)
	if err != nil {
		return fmt.Errorf("pidfd of the lazy-pages daemon: %w", err)
	}
	defer unix.Close(pidfd)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
		}
		grown, err := k.duplicate(daemon, pidfd)
		if err != nil {
			return err
		}
		if grown {
			if err := k.mark(Holding, strconv.Itoa(k.total)); err != nil {
				return err
			}
		}
	}
}

// duplicate holds what the daemon has open and we do not hold, and lets go of what it has closed.
func (k *keeper) duplicate(daemon, pidfd int) (grown bool, err error) {
	open := Userfaultfds(daemon)
	unheld, err := k.match(daemon, open)
	if err != nil {
		return false, err
	}
	for _, fd := range unheld {
		ours, err := unix.PidfdGetfd(pidfd, fd, 0)
		if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH) {
			continue // it closed, or ended
		}
		if err != nil {
			return grown, fmt.Errorf("duplicate a userfaultfd: %w", err)
		}
		if !isUserfaultfd(filepath.Join("/proc/self/fd", strconv.Itoa(ours))) {
			_ = unix.Close(ours) // the number was given to something else since
			continue
		}
		k.held[ours], grown = fd, true
		k.total++
	}
	return grown, nil
}

// match finds out which of the daemon's userfaultfds we hold, and returns the others. Duplicates of what the daemon has closed
// itself are closed: the task has ended, or has all of its pages. As long as we hold one, the daemon's epoll goes on to name
// the closed descriptor, and the daemon never gets to the end.
func (k *keeper) match(daemon int, open []int) (unheld []int, err error) {
	unheld = slices.Clone(open)
	for ours, last := range k.held {
		at, err := find(daemon, unheld, os.Getpid(), ours, last)
		if err != nil {
			return nil, err
		}
		if at >= 0 {
			k.held[ours] = unheld[at]
			unheld = slices.Delete(unheld, at, at+1)
			continue
		}
		// A daemon that is being killed loses all of its descriptors at one stroke, before it counts as dead.
		if _, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(daemon), "fd/1")); err != nil {
			return nil, nil
		}
		_ = unix.Close(ours)
		delete(k.held, ours)
	}
	return unheld, nil
}

// find returns which of the descriptors of a process is the open file that fd is in another; -1 for none. The one whose
// number is first is looked at first.
func find(process int, descriptors []int, other, fd, first int) (int, error) {
	order := slices.Index(descriptors, first)
	if order >= 0 {
		if is, err := same(process, first, other, fd); is || err != nil {
			return order, err
		}
	}
	for i, d := range descriptors {
		if i == order {
			continue
		}
		if is, err := same(process, d, other, fd); is || err != nil {
			return i, err
		}
	}
	return -1, nil
}

// kcmpFile has kcmp(2) compare two open files.
const kcmpFile = 0

// same tells whether two processes' descriptors are one open file; one that is closed is none.
func same(process, fd, other, otherFD int) (bool, error) {
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(process), uintptr(other), kcmpFile, uintptr(fd), uintptr(otherFD), 0)
	switch errno {
	case 0:
		return order == 0, nil
	case unix.EBADF, unix.ESRCH:
		return false, nil
	}
	return false, fmt.Errorf("compare userfaultfds: %w", errno)
}

// Holds tells whether a keeper holds every userfaultfd that its daemon has, and there is one.
func Holds(keeper, daemon int) bool {
	held, open := Userfaultfds(keeper), Userfaultfds(daemon)
	for _, fd := range open {
		if at, err := find(keeper, held, daemon, fd, -1); at < 0 || err != nil {
			return false
		}
	}
	return len(open) > 0
}

func (k *keeper) mark(name, content string) error {
	path := filepath.Join(k.dir, name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Userfaultfds lists the descriptors of a process that are userfaultfds.
func Userfaultfds(pid int) []int {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var fds []int
	for _, entry := range entries {
		if !isUserfaultfd(filepath.Join(dir, entry.Name())) {
			continue
		}
		if fd, err := strconv.Atoi(entry.Name()); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}

func isUserfaultfd(link string) bool {
	target, err := os.Readlink(link)
	return err == nil && target == "anon_inode:[userfaultfd]"
}

// Marked tells whether a keeper has left a mark, and what it says.
func Marked(dir, name string) (string, bool) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return "", false
	}
	return string(data), true
}
