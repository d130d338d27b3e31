package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// States of a lab.
const (
	StateUp       = "up"       // every host runs, and its keeper too
	StateDegraded = "degraded" // Up came to its end, but something of it has gone
	StatePartial  = "partial"  // Up or Down was cut off
)

// Status is a lab as it is now.
type Status struct {
	Name    string       `json:"name" yaml:"name"`
	State   string       `json:"state" yaml:"state"`
	Socket  string       `json:"socket" yaml:"socket"` // of the controller's API
	Reboots string       `json:"reboots" yaml:"reboots"`
	Hosts   []HostStatus `json:"hosts" yaml:"hosts"`
}

// HostStatus is a host, or a controller's host, as it is now.
type HostStatus struct {
	Name     string          `json:"name" yaml:"name"`
	Up       bool            `json:"up" yaml:"up"`
	PID      int             `json:"pid" yaml:"pid"` // of its init, on the machine; 0 while it is down
	Address  string          `json:"address" yaml:"address"`
	BootID   string          `json:"boot_id" yaml:"boot_id"`
	Services []ServiceStatus `json:"services" yaml:"services"`
}

// ServiceStatus is one service of a host. Restarts counts since the host's boot.
type ServiceStatus struct {
	Name     string `json:"name" yaml:"name"`
	Up       bool   `json:"up" yaml:"up"`
	Restarts int    `json:"restarts" yaml:"restarts"`
}

// Status looks at every host of the lab.
func (l *Lab) Status() (Status, error) {
	s := Status{Name: l.name, State: StatePartial, Socket: l.Socket(), Reboots: "simulated"}
	if err := l.load(); errors.Is(err, ErrNotFound) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	if l.rec.Driver == DriverVM {
		s.Reboots = "real"
	}
	if l.rec.Complete {
		s.State = StateUp
	}
	for _, node := range l.nodes() {
		h, err := l.hostStatus(node)
		if err != nil {
			return s, err
		}
		keeper, err := readProcess(l.keeperRecord(node))
		if err != nil {
			return s, err
		}
		if s.State == StateUp && !(h.Up && keeper.alive()) {
			s.State = StateDegraded
		}
		s.Hosts = append(s.Hosts, h)
	}
	if _, err := os.Stat(l.NetNS(switchNode)); errors.Is(err, fs.ErrNotExist) && s.State == StateUp {
		s.State = StateDegraded
	}
	return s, nil
}

func (l *Lab) hostStatus(node string) (HostStatus, error) {
	h := HostStatus{Name: node, Address: l.Address(node), Services: []ServiceStatus{}}
	now, err := l.running(node)
	if err != nil && !errors.Is(err, ErrDown) {
		return h, err
	}
	h.Up, h.PID, h.BootID = err == nil && now.Ready, now.Init.PID, now.Boot
	var states []serviceState
	if l.isVM(node) && h.Up {
		h.BootID, states = l.vmServices(context.Background(), node)
	} else {
		states, err = l.services(node)
	}
	for _, st := range states {
		h.Services = append(h.Services, ServiceStatus{Name: st.Name, Up: h.Up && st.PID > 0, Restarts: st.Restarts})
	}
	return h, err
}

// StatusAll looks at every lab of which anything is left on this machine.
func StatusAll() ([]Status, error) {
	names, err := List()
	if err != nil {
		return nil, err
	}
	all := []Status{}
	for _, name := range names {
		s, err := (&Lab{name: name}).Status()
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}
