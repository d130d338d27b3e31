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
	dir   string
	held  map[int]int // the daemon's descriptor to ours
	total int         // ever held
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

func (k *keeper) duplicate(daemon, pidfd int) (grown bool, err error) {
	open := Userfaultfds(daemon)
	k.release(daemon, open)
	for _, fd := range open {
		if _, have := k.held[fd]; have {
			continue
		}
		ours, err := unix.PidfdGetfd(pidfd, fd, 0)
		if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH) {
			continue // it closed, or ended
		}
		if err != nil {
			return grown, fmt.Errorf("duplicate a userfaultfd: %w", err)
		}
		k.held[fd], grown = ours, true
		k.total++
	}
	return grown, nil
}

// release closes our duplicates of what the daemon has closed itself: the task has ended, or has all of its pages. As long as
// we hold one, the daemon's epoll goes on to name the closed descriptor, and the daemon never gets to the end.
func (k *keeper) release(daemon int, open []int) {
	for fd, ours := range k.held {
		if slices.Contains(open, fd) && same(daemon, fd, ours) {
			continue
		}
		// A daemon that is being killed loses all of its descriptors at one stroke, before it counts as dead.
		if _, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(daemon), "fd/1")); err != nil {
			return
		}
		_ = unix.Close(ours)
		delete(k.held, fd)
	}
}

// kcmpFile has kcmp(2) compare two open files.
const kcmpFile = 0

// same tells whether the daemon's descriptor and ours are one open file. Where that cannot be told, they are.
func same(daemon, fd, ours int) bool {
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(daemon), uintptr(os.Getpid()), kcmpFile, uintptr(fd), uintptr(ours), 0)
	return errno != 0 || order == 0
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
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil || target != "anon_inode:[userfaultfd]" {
			continue
		}
		if fd, err := strconv.Atoi(entry.Name()); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}

// Marked tells whether a keeper has left a mark, and what it says.
func Marked(dir, name string) (string, bool) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return "", false
	}
	return string(data), true
}
