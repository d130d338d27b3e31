//go:build faults

package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"drydock/lab"

	drydockv1 "drydock/api/drydock/v1"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// fullMemory leaves no room in the memory that a migration's images are received in.
func fullMemory(m mode) []fault {
	return []fault{{
		name: m.name + "/source-before-dump/full memory at the destination", mode: m.mode,
		points: []point{at("source-before-dump")},
		strikes: []func(*scene) error{func(s *scene) error {
			path, err := s.received("images")
			if err != nil {
				return err
			}
			inHost := "/" + path[strings.Index(path, "run/drydock"):]
			out, err := s.Exec(s.ctx, s.destination, "mount", "-o", "remount,size=64k", filepath.Dir(inHost)).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}},
	}}
}

// fullDisk gives the destination a disk that is full from a point on, and for good: what its agent or its containerd keeps
// lies on a file system of its own, which a file fills.
func fullDisk(m mode) []fault {
	var all []fault
	for _, disk := range []struct{ name, dir string }{{"the agent's disk", "data"}, {"containerd's disk", "containerd"}} {
		for _, p := range []string{"source-before-prepare", "source-before-sync", "source-before-dump", "destination-before-restore", "destination-before-decide"} {
			all = append(all, fault{
				name: fmt.Sprintf("%s/%s/%s full at the destination", m.name, p, disk.name), mode: m.mode,
				before: func(s *scene) error { return s.smallDisk(disk.dir) },
				points: []point{at(p)},
				strikes: []func(*scene) error{func(s *scene) error {
					return s.fill(filepath.Join(s.hostDir(disk.dir), "filler"))
				}},
				after: func(s *scene) error {
					// What is full stays full until the pod runs again.
					_, err := s.settled()
					return errors.Join(err, os.Remove(filepath.Join(s.hostDir(disk.dir), "filler")))
				},
			})
		}
	}
	return all
}

// hostDir is where on the machine a directory of the destination lies that survives its reboots.
func (s *scene) hostDir(name string) string {
	return filepath.Join(filepath.Dir(s.DataDir(s.destination)), name)
}

// smallDisk puts a directory of the destination on a file system of its own, while the host is off. At the end it is put
// back, with what has changed in it.
func (s *scene) smallDisk(name string) error {
	host, dir := s.destination, s.hostDir(name)
	aside := dir + ".aside"
	if err := s.KillHost(s.ctx, host); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(dir, aside), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	if err := unix.Mount("faults", dir, "tmpfs", 0, "size=1g,mode=0755"); err != nil {
		return err
	}
	s.undo = append(s.undo, func() error {
		if err := s.moveOff(host); err != nil {
			return err
		}
		if err := s.KillHost(s.ctx, host); err != nil && !errors.Is(err, lab.ErrDown) {
			return err
		}
		err := errors.Join(os.RemoveAll(aside), copyAll(dir, aside), unix.Unmount(dir, 0), os.Remove(dir), os.Rename(aside, dir))
		return errors.Join(err, s.StartHost(s.ctx, host), s.awaitHost(host))
	})
	if err := errors.Join(copyAll(aside, dir), s.StartHost(s.ctx, host)); err != nil {
		return err
	}
	return s.awaitHost(host)
}

// moveOff moves the pod to the other host, if it is on this one: it would be lost when the host is switched off.
func (s *scene) moveOff(host string) error {
	pod, err := s.pod(s.ctx)
	if err != nil || pod.Host != host {
		return err
	}
	other := s.source
	if other == host {
		other = s.destination
	}
	_, err = s.Move(s.ctx, podName, other, stop, nil)
	return err
}

// awaitHost waits until the controller counts a host as ready again.
func (s *scene) awaitHost(host string) error { return s.awaitHostIn(host, "ready") }

// awaitHostIn waits until the controller knows a host's boot, and counts it as in a state.
func (s *scene) awaitHostIn(host, state string) error {
	init, err := s.Root(host)
	if err != nil {
		return err
	}
	boot, err := os.ReadFile(filepath.Join(init, "run/boot_id"))
	if err != nil {
		return err
	}
	return until(s.ctx, "host "+host, func() (bool, string) {
		res, err := s.GetHost(s.ctx, connect.NewRequest(&drydockv1.GetHostRequest{Name: host}))
		if err != nil {
			return false, err.Error()
		}
		h := res.Msg.Host
		return h.State == state && h.BootId == strings.TrimSpace(string(boot)), h.State + " " + h.Message
	})
}

// fill writes a file until the disk is full.
func (s *scene) fill(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for size := 1 << 20; size > 0; {
		n, err := file.Write(make([]byte, size))
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			return err
		}
		if n < size {
			size /= 2
		}
	}
	return nil
}

// copyAll copies a tree with everything that file systems know of its files.
func copyAll(from, to string) error {
	if _, err := os.Stat(to); errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
	}
	if out, err := exec.Command("cp", "-a", "--one-file-system", from+"/.", to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}
