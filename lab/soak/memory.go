package soak

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"drydock/lab"
	"drydock/lab/rig"
)

// Memory is what one of Drydock's programs held in memory, in bytes, after some of the moves and after all of them.
type Memory struct {
	Node    string `json:"node"`
	Service string `json:"service"`
	Early   int64  `json:"early_bytes"`
	Late    int64  `json:"late_bytes"`
	// OpenEarly and OpenLate count open files.
	OpenEarly int `json:"open_early"`
	OpenLate  int `json:"open_late"`
}

// What may come on top between the two measurements: a garbage collector does not give back at once what it has freed.
const (
	memorySlack = 16 << 20
	openSlack   = 8
)

// grew says what has grown by more than noise, or is empty.
func (m Memory) grew() string {
	switch {
	case m.Late > m.Early+m.Early/5+memorySlack:
		return fmt.Sprintf("%s memory of %s: %d MB before, %d MB after", m.Node, m.Service, m.Early>>20, m.Late>>20)
	case m.OpenLate > m.OpenEarly+openSlack:
		return fmt.Sprintf("%s open files of %s: %d before, %d after", m.Node, m.Service, m.OpenEarly, m.OpenLate)
	}
	return ""
}

// measure looks at every program of Drydock's, and at containerd.
func measure(r *rig.Rig) ([]Memory, error) {
	var all []Memory
	for _, node := range append(r.Hosts(), lab.ControllerNode) {
		services := []string{lab.Agent().Name, lab.Containerd().Name}
		if node == lab.ControllerNode {
			services = []string{lab.Controller().Name}
		}
		for _, service := range services {
			pid, err := r.ServicePID(node, service)
			if err != nil {
				return nil, err
			}
			m := Memory{Node: node, Service: service}
			if m.Early, err = resident(pid); err != nil {
				return nil, err
			}
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if err != nil {
				return nil, err
			}
			m.OpenEarly = len(open)
			all = append(all, m)
		}
	}
	return all, nil
}

// compare makes one list of two measurements.
func compare(early, late []Memory) []Memory {
	for i := range early {
		early[i].Late, early[i].OpenLate = late[i].Early, late[i].OpenEarly
	}
	return early
}

// resident is a process's memory that is not a file's, in bytes.
func resident(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, "RssAnon:"); found {
			kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("the status of process %d has no RssAnon", pid)
}
