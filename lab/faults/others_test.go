//go:build faults

package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/lab"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/transfer"

	"golang.org/x/sys/unix"
)

// criu takes CRIU away: at its own stages, and while it waits in the destination's hook.
func criu(m mode) []fault {
	one := func(p point, side string) fault {
		return fault{
			name: fmt.Sprintf("%s/%s/kill the %s's CRIU", m.name, p.name, side), mode: m.mode,
			points: []point{p}, strikes: []func(*scene) error{killCRIU(side)},
		}
	}
	var all []fault
	for _, stage := range []string{"pre-dump", "post-dump"} {
		all = append(all, one(point{source, "criu-" + stage}, source))
	}
	for _, stage := range []string{"pre-restore", "setup-namespaces"} {
		all = append(all, one(point{destination, "criu-" + stage}, destination))
	}
	// This hook comes after Drydock's, which has passed on a commit: the other container's CRIU may have let its tasks go.
	passed := one(point{destination, "criu-post-restore"}, destination)
	passed.mayLose = true
	all = append(all, passed)
	for _, p := range []string{"destination-after-restore", "destination-before-decide", "destination-after-decide"} {
		all = append(all, one(at(p), destination))
	}
	// From here on the tasks may have run, so nobody may restore them again.
	last := one(point{destination, "criu-pre-resume"}, destination)
	last.loses = true
	return append(all, last)
}

// pages stop coming in post-copy: the destination's lazy-pages daemons end, or the source's CRIU that serves them. Before the
// commit the source keeps the pod. After it the pod may be whole already; if not, it is lost, and never runs with holes.
func pages(m mode) []fault {
	if m.mode != postcopy {
		return nil
	}
	var all []fault
	for _, p := range []string{"destination-after-restore", "destination-before-decide", "destination-after-decide", "destination-before-plug-in"} {
		committed := p == "destination-after-decide" || p == "destination-before-plug-in"
		for _, v := range []struct {
			name string
			kill func(*scene) error
		}{{"the lazy-pages daemons", killLazyPages}, {"the page servers", killCRIU(source)}} {
			all = append(all, fault{
				name: fmt.Sprintf("%s/%s/kill %s", m.name, p, v.name), mode: m.mode, mayLose: committed,
				points: []point{at(p)}, strikes: []func(*scene) error{v.kill},
			})
		}
	}
	return all
}

// containerd is taken away on either side.
func containerd(m mode) []fault {
	var all []fault
	for _, side := range []string{source, destination} {
		for _, p := range []string{"source-before-prepare", "source-before-freeze", "source-before-dump", "destination-before-restore", "destination-before-decide", "destination-after-decide", "source-before-clean"} {
			all = append(all, fault{
				name: fmt.Sprintf("%s/%s/kill the %s's containerd", m.name, p, side), mode: m.mode,
				points: []point{at(p)}, strikes: []func(*scene) error{kill(side, "containerd")},
			})
		}
	}
	return all
}

// hosts crash and come back. The pod's only copy goes with the source before everything was sent, and with the destination
// from when it may have run there. In post-copy the pages of a pod that runs come whether the destination's agent stands still
// or not, so all of them may be there by then.
func hosts(m mode) []fault {
	var all []fault
	for _, c := range []struct {
		point, side    string
		loses, mayLose bool
	}{
		{"source-before-sync", source, true, false},
		{"source-in-freeze", source, true, false},
		{"source-after-dump", source, true, false},
		{"destination-before-restore", source, m.mode == postcopy, false},
		{"destination-before-decide", source, m.mode == postcopy, false},
		{"destination-after-decide", source, m.mode == postcopy, false},
		{"destination-after-plug-in", source, false, m.mode == postcopy},
		{"source-before-clean", source, false, false},
		{"source-before-sync", destination, false, false},
		{"source-in-freeze", destination, false, false},
		{"source-after-dump", destination, false, false},
		{"destination-before-restore", destination, false, false},
		{"destination-before-decide", destination, false, false},
		{"destination-after-decide", destination, false, false},
		{"destination-after-plug-in", destination, true, false},
		{"source-before-clean", destination, true, false},
	} {
		all = append(all, fault{
			name: fmt.Sprintf("%s/%s/crash the %s", m.name, c.point, c.side), mode: m.mode, loses: c.loses, mayLose: c.mayLose,
			points: []point{at(c.point)}, strikes: []func(*scene) error{crash(c.side)},
		})
	}
	return all
}

// slow is a link's rate in bytes a second: a migration takes many times as long over it.
const slow = 1 << 20

// links break, open halfway in either direction, or become slow, between any two of the three.
func links(m mode) []fault {
	kinds := []struct {
		name string
		make func(a, b string) []lab.Fault
	}{
		{"broken", lab.Partition},
		{"half open", func(a, b string) []lab.Fault { return []lab.Fault{{From: a, To: b, Drop: true}} }},
		{"half open the other way", func(a, b string) []lab.Fault { return []lab.Fault{{From: b, To: a, Drop: true}} }},
		{"slow", func(a, b string) []lab.Fault {
			return []lab.Fault{{From: a, To: b, Rate: slow}, {From: b, To: a, Rate: slow}}
		}},
	}
	pairs := [][2]string{{source, destination}, {source, controller}, {destination, controller}}
	var all []fault
	for _, pair := range pairs {
		for _, kind := range kinds {
			for _, p := range []string{"source-before-sync", "source-before-dump", "destination-before-decide"} {
				all = append(all, fault{
					name: fmt.Sprintf("%s/%s/%s link between %s and %s", m.name, p, kind.name, pair[0], pair[1]), mode: m.mode,
					points: []point{at(p)}, after: heal, ci: m.mode == stop && p == "source-before-dump",
					strikes: []func(*scene) error{func(s *scene) error {
						s.undo = append(s.undo, func() error { return s.SetFaults() })
						return s.SetFaults(kind.make(s.host(pair[0]), s.host(pair[1]))...)
					}},
				})
			}
		}
	}
	return all
}

// patience is longer than any side waits for another before it calls it silent.
const patience = 15 * time.Second

// heal gives the pod the chance to come through by itself, and then the link back.
func heal(s *scene) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(lookAgain) {
		pod, err := s.pod(s.ctx)
		if err == nil && pod.Phase == drydockv1.PodPhase_POD_PHASE_RUNNING && pod.Migration == "" {
			break
		}
	}
	return s.SetFaults()
}

// storeAway takes the store away right when the destination asks it for the decision.
func storeAway(m mode) []fault {
	stopped := func(s *scene) error {
		pid, err := s.ServicePID(s.host(controller), "controller")
		if err != nil {
			return err
		}
		s.undo = append(s.undo, func() error {
			if err := unix.Kill(pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			return nil
		})
		return unix.Kill(pid, unix.SIGSTOP)
	}
	back := func(s *scene) error {
		time.Sleep(patience)
		return s.undo[len(s.undo)-1]()
	}
	crashed := func(s *scene) error { return s.KillHost(s.ctx, s.host(controller)) }
	started := func(s *scene) error {
		time.Sleep(patience)
		return s.StartHost(s.ctx, s.host(controller))
	}
	p := []point{at("destination-before-decide")}
	return []fault{
		{name: m.name + "/destination-before-decide/the store hangs", mode: m.mode, points: p, strikes: []func(*scene) error{stopped}, after: back},
		{name: m.name + "/destination-before-decide/the store's host crashes", mode: m.mode, points: p, strikes: []func(*scene) error{crashed}, after: started},
	}
}

// damage is done to the images that a destination has received.
func damage(m mode) []fault {
	kinds := []struct {
		name, file string
		do         func(path string) error
	}{
		{"bytes of an image flipped", "core-1.img", flip},
		{"bytes of the inventory flipped", "inventory.img", flip},
		{"an image truncated", "mm-1.img", func(path string) error { return os.Truncate(path, 7) }},
		{"the pages truncated", "pages-1.img", func(path string) error { return os.Truncate(path, 4096) }},
		{"an image missing", "fdinfo-2.img", os.Remove},
	}
	var all []fault
	for _, kind := range kinds {
		if m.mode == postcopy && strings.HasPrefix(kind.file, "pages") {
			continue // they stay at the source
		}
		all = append(all, fault{
			name: fmt.Sprintf("%s/destination-before-restore/%s", m.name, kind.name), mode: m.mode,
			points: []point{at("destination-before-restore")},
			strikes: []func(*scene) error{func(s *scene) error {
				path, err := s.received("images/redis/" + kind.file + transfer.Arrived) // a FIFO has its place
				if err != nil {
					path, err = s.received("images/redis/" + kind.file)
				}
				if err != nil {
					return err
				}
				if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
					return errors.Join(fmt.Errorf("%s is no file", path), err)
				}
				return kind.do(path)
			}},
		})
	}
	return all
}

// received finds a file of the one migration that a destination takes part in.
func (s *scene) received(name string) (string, error) {
	root, err := s.Root(s.destination)
	if err != nil {
		return "", err
	}
	paths, err := filepath.Glob(filepath.Join(root, "run/drydock/migrations/*", name))
	if err == nil && len(paths) != 1 {
		err = fmt.Errorf("%s is there %d times", name, len(paths))
	}
	if err != nil {
		return "", err
	}
	return paths[0], nil
}

func flip(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := range data {
		data[i] ^= 0x55
	}
	return os.WriteFile(path, data, 0o600)
}
