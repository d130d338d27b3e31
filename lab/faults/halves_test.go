//go:build faults

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

const (
	handedBack = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_HANDED_BACK
	lost       = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_LOST
)

// halves run of a pod of several containers, after the commit: the CRIU of one is killed when those of the others have let their
// tasks go. What runs is ended, so that there is one copy again. Where others may have seen it, through a shared volume, the pod
// is lost and its restart policy starts it anew; else the source's copy goes on, with everything that clients wrote.
func halves(m mode) []fault {
	var all []fault
	for _, stage := range []string{"post-restore", "network-unlock", "pre-resume"} {
		p := point{destination, "criu-" + stage}
		one := fault{
			name: fmt.Sprintf("%s/%s/kill one container's CRIU when the other's tasks run", m.name, p.name), mode: m.mode,
			points: []point{p}, strikes: []func(*scene) error{killTheLast(p)},
		}
		seen, unseen := one, one
		seen.loses, seen.outcome = true, lost
		unseen.name, unseen.unshared, unseen.outcome = one.name+", nothing shared", true, handedBack
		all = append(all, seen, unseen)
	}
	return all
}

// unseen are faults after the commit that come before anybody can have noticed that an unshared pod runs at its destination.
func unseen(m mode) []fault {
	return []fault{
		{
			name: m.name + "/destination-before-plug-in/kill the destination's agent, nothing shared", mode: m.mode, unshared: true,
			points: []point{at("destination-before-plug-in")}, strikes: []func(*scene) error{kill(destination, "agent")},
		},
		{
			name: m.name + "/destination-before-plug-in/crash the destination, nothing shared", mode: m.mode, unshared: true, outcome: handedBack,
			points: []point{at("destination-before-plug-in")}, strikes: []func(*scene) error{crash(destination)},
		},
	}
}

// hangs has a CRIU stand still when it has let a container's tasks go. Nothing is left for it to do, and nothing may wait for it
// without end: neither the destination, which ends it, nor the source, whose report comes. Where its runc was ended, nothing of
// that is left beside the pod that runs.
func hangs(m mode) []fault {
	p := point{destination, "criu-post-resume"}
	return []fault{
		{
			name: m.name + "/criu-post-resume/a CRIU that never ends", mode: m.mode, unwatched: true,
			points: []point{p}, strikes: []func(*scene) error{reportsMeanwhile},
		},
		{
			name: m.name + "/criu-post-resume/kill runc when the tasks run", mode: m.mode, unwatched: true,
			points: []point{p}, strikes: []func(*scene) error{killRunc(p)},
		},
	}
}

// reportsMeanwhile waits for the migration's report while somebody stands at a point.
func reportsMeanwhile(s *scene) error {
	return until(s.ctx, "the migration's report", func() (bool, string) {
		select {
		case <-s.reported:
			return true, ""
		default:
			return false, "it is still under way"
		}
	})
}

// killTheLast ends the one CRIU that stands at a point of its own, when every other that restores has ended.
func killTheLast(p point) func(*scene) error {
	return func(s *scene) error {
		standing := 0
		err := until(s.ctx, "the end of the other containers' CRIU", func() (bool, string) {
			found, all, err := s.standing(p)
			if err != nil {
				return false, err.Error()
			}
			if len(all) == 1 {
				standing = found
			}
			return standing != 0, fmt.Sprintf("CRIU %v, of which %d stands at the point", all, found)
		})
		return errors.Join(err, s.end(standing))
	}
}

// killRunc ends the runc that waits for the CRIU which stands at a point.
func killRunc(p point) func(*scene) error {
	return func(s *scene) error {
		found, all, err := s.standing(p)
		if err == nil && found == 0 {
			err = fmt.Errorf("none of CRIU %v stands at %s", all, p.name)
		}
		if err != nil {
			return err
		}
		parent, err := parentOf(found)
		return errors.Join(err, s.end(parent))
	}
}

// standing is the CRIU that stands at a point, 0 where it does not, and all that restore on that host.
func (s *scene) standing(p point) (found int, all []int, err error) {
	said, err := os.ReadFile(s.faultFile(p) + ".reached")
	if err != nil {
		return 0, nil, err
	}
	if all, err = s.find(s.host(p.side), "criu"); err != nil {
		return 0, nil, err
	}
	all = slices.DeleteFunc(all, bringsPages)
	for _, pid := range all {
		if numberInside(pid) == strings.TrimSpace(string(said)) {
			found = pid
		}
	}
	return found, all, nil
}

func parentOf(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if parent, found := strings.CutPrefix(line, "PPid:"); found {
			return strconv.Atoi(strings.TrimSpace(parent))
		}
	}
	return 0, fmt.Errorf("process %d has no parent", pid)
}

// bringsPages tells whether a CRIU is a lazy-pages daemon.
func bringsPages(pid int) bool {
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return bytes.Contains(cmdline, []byte("\x00lazy-pages\x00"))
}

// numberInside is the number that a process has on its own host.
func numberInside(pid int) string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if numbers, found := strings.CutPrefix(line, "NSpid:"); found {
			all := strings.Fields(numbers)
			return all[len(all)-1]
		}
	}
	return ""
}
