//go:build faults

package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// kill ends a service of a side for good; the host's init starts it again.
func kill(side, service string) func(*scene) error {
	return func(s *scene) error {
		pid, err := s.ServicePID(s.host(side), service)
		if err != nil {
			return err
		}
		return s.end(pid)
	}
}

// end kills a process and waits until it is gone.
func (s *scene) end(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it went with another one
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return until(s.ctx, fmt.Sprintf("the end of process %d", pid), func() (bool, string) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 100)
		return n > 0, fmt.Sprint(err)
	})
}

// killCRIU ends every CRIU that drives a dump or a restore on a side: what runc talks to, not the tasks that are being made.
func killCRIU(side string) func(*scene) error {
	return func(s *scene) error {
		pids, err := s.find(s.host(side), "criu")
		if err == nil && len(pids) == 0 {
			err = errors.New("no CRIU is at work there")
		}
		for _, pid := range pids {
			err = errors.Join(err, s.end(pid))
		}
		return err
	}
}

// killLazyPages ends the daemons that bring a pod's missing pages; their keepers live on.
func killLazyPages(s *scene) error {
	pids, err := s.find(s.destination, "criu")
	if err != nil {
		return err
	}
	found := false
	for _, pid := range pids {
		if bringsPages(pid) {
			found, err = true, errors.Join(err, s.end(pid))
		}
	}
	if !found {
		err = errors.Join(err, errors.New("no lazy-pages daemon is at work there"))
	}
	return err
}

// find lists the processes of a host, but not of its pods, that run a program.
func (b *bench) find(host, program string) ([]int, error) {
	init, err := b.InitPID(host)
	if err != nil {
		return nil, err
	}
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob("/proc/[0-9]*/exe")
	var pids []int
	for _, path := range paths {
		dir := filepath.Dir(path)
		exe, _ := os.Readlink(path) // CRIU puts what it does in place of its command line
		own, _ := os.Readlink(filepath.Join(dir, "ns/pid"))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if filepath.Base(exe) == program && own == space {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, err
}

// crash takes the power from a side's host, and gives it back.
func crash(side string) func(*scene) error {
	return func(s *scene) error {
		host := s.host(side)
		if err := s.KillHost(s.ctx, host); err != nil {
			return err
		}
		return s.StartHost(s.ctx, host)
	}
}

// hookScript stops CRIU at a stage that a file in the host's fault directory names, as an agent stops at its points. What a host
// dumps and restores to prove itself is none of its business.
const hookScript = `#!/bin/sh
case $CRTOOLS_IMAGE_DIR in */probe/*) exit 0;; esac
at=/etc/drydock/faults/criu-$CRTOOLS_SCRIPT_ACTION
mv "$at" "$at.here" 2>/dev/null || exit 0
echo $PPID >"$at.here"
mv "$at.here" "$at.reached"
while [ -e "$at.reached" ]; do sleep 0.01; done
`

// installHook has every CRIU of a host run the hook.
func (b *bench) installHook(host string) error {
	root, err := b.Root(host)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "etc/criu"), 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(root, "etc/criu/faults"), []byte(hookScript), 0o755),
		os.WriteFile(filepath.Join(root, "etc/criu/default.conf"), []byte("action-script /etc/criu/faults\n"), 0o644),
	)
}
