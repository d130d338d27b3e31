package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"drydock/internal/clictx"
)

// DriverNamespace makes hosts of namespaces on this machine's kernel.
const DriverNamespace = "namespace"

const maxHosts = 60

// Service is a program that a host's init keeps running: when it ends, it is started again after a short fixed time.
// What it left behind keeps running.
type Service struct {
	Name  string   `json:"name"`
	Argv  []string `json:"argv"`
	Env   []string `json:"env,omitempty"`   // added to the init's own
	Ready string   `json:"ready,omitempty"` // a unix socket in the host that accepts once the service is ready
}

// Containerd is the service that every host for pods has.
func Containerd() Service {
	return Service{Name: "containerd", Argv: []string{"containerd", "--config", "/etc/containerd/config.toml"}, Ready: "/run/containerd/containerd.sock"}
}

// Agent is Drydock's own service on a host for pods.
func Agent() Service {
	return Service{Name: "agent", Argv: []string{"/usr/bin/drydock", "agent", "--config", "/etc/drydock/agent.yaml"}}
}

// Controller is Drydock's service on a controller's host.
func Controller() Service {
	return Service{Name: "controller", Argv: []string{"/usr/bin/drydock", "controller", "--config", "/etc/drydock/controller.yaml"}}
}

// Options say what lab to bring up.
type Options struct {
	Name  string // "default" if empty
	Hosts int    // hosts for pods; 3 if zero
	// Controllers is how many there are, 1 if zero. Several share a store, of which each holds a part.
	Controllers int
	Driver      string // DriverNamespace if empty, or DriverVM

	// Package is Drydock's Debian package, which DriverVM installs; if empty, the newest one beside Binary.
	Package string

	// Kernels are the Debian suites, bookworm for example, that the hosts of DriverVM have their kernels from, in order; empty, and
	// for hosts beyond them, the suite of all other packages.
	Kernels []string

	// Binary is the drydock program that the hosts run; this program if empty. The lab works on a copy of it. It must
	// answer `lab host-keeper` and `lab host-init` with HostMain.
	Binary string

	// Packages are Debian packages that the hosts' root needs beside the usual ones.
	Packages []string

	// HostServices and ControllerServices replace what the hosts and the controllers' hosts run; nil is the usual.
	HostServices       []Service
	ControllerServices []Service

	// Join asks the controllers for the one-time token that a host, or a further controller, joins with. It is called for every
	// one of them before its first start: one after the other for controllers, when those before have started, and then for
	// several hosts at once. Nil: hosts get no token.
	Join func(ctx context.Context, l *Lab, node string) (token string, err error)

	// WaitReady returns when the controllers see each other and all hosts as ready. Nil: the sockets of Service.Ready are enough.
	WaitReady func(ctx context.Context, l *Lab, hosts []string) error

	// FaultPoints makes every agent stop at the points of a migration, and controllers at those of a rollout, that are named by
	// files in FaultDir.
	FaultPoints bool

	// PortSecurity makes the switch drop frames that a host sends with another MAC than its own, as many clouds and switches
	// do. Pods get a network of their own then, since no machine on the switch could be on theirs.
	PortSecurity bool

	// Updates are what the hosts lack, from where. The packages' node is there only if that is anything.
	Updates Updates

	// Network is the controllers' `network.kind`; its default if empty.
	Network string

	// Progress gets a line for each stage, with the time since the start. Nil: none.
	Progress io.Writer
}

func (o Options) withDefaults() (Options, error) {
	if o.Name == "" {
		o.Name = "default"
	}
	if o.Hosts == 0 {
		o.Hosts = 3
	}
	if o.Controllers == 0 {
		o.Controllers = 1
	}
	if o.Driver == "" {
		o.Driver = DriverNamespace
	}
	if o.HostServices == nil {
		o.HostServices = []Service{Containerd(), Agent()}
	}
	if o.ControllerServices == nil {
		o.ControllerServices = []Service{Controller()}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find this program: %w", err)
		}
		o.Binary = self
	}
	return o, o.validate()
}

// validate refuses with every reason at once.
func (o Options) validate() error {
	var errs []error
	if !nameRule.MatchString(o.Name) {
		errs = append(errs, fmt.Errorf("lab name %q: use at most 20 lower-case letters, digits and hyphens", o.Name))
	}
	if o.Hosts < 1 || o.Hosts > maxHosts {
		errs = append(errs, fmt.Errorf("%d hosts: from 1 to %d are possible", o.Hosts, maxHosts))
	}
	if o.Controllers < 1 || o.Controllers > maxControllers {
		errs = append(errs, fmt.Errorf("%d controllers: from 1 to %d are possible, and three are useful", o.Controllers, maxControllers))
	}
	if o.Controllers > 1 && o.Join == nil {
		errs = append(errs, errors.New("several controllers: Join is needed, for their tokens"))
	}
	switch o.Driver {
	case DriverNamespace:
		if len(o.Kernels) > 0 {
			errs = append(errs, fmt.Errorf("driver %s: hosts share this machine's kernel: use driver %s for others", DriverNamespace, DriverVM))
		}
	case DriverVM:
		errs = append(errs, o.validateVM()...)
	default:
		errs = append(errs, fmt.Errorf("driver %q: use %s or %s", o.Driver, DriverNamespace, DriverVM))
	}
	for _, s := range append(append([]Service{}, o.HostServices...), o.ControllerServices...) {
		if s.Name == "" || filepath.Base(s.Name) != s.Name || len(s.Argv) == 0 {
			errs = append(errs, fmt.Errorf("service %q: a plain name and a command are needed", s.Name))
		}
	}
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("a lab needs root: namespaces, mounts and cgroups are made"))
	}
	return errors.Join(errs...)
}

func (o Options) record() (record, error) {
	path, err := clictx.Path()
	if err != nil {
		return record{}, err
	}
	rec := record{Controllers: o.Controllers, Contexts: path, PortSecurity: o.PortSecurity, Updates: o.Updates}
	if o.Driver == DriverVM {
		rec.Driver = DriverVM
	}
	for i := range o.Hosts {
		rec.Hosts = append(rec.Hosts, fmt.Sprintf("h%d", i+1))
	}
	return rec, nil
}

// hasController tells whether the lab will have a controller that makes credentials.
func (o Options) hasController() bool {
	for _, s := range o.ControllerServices {
		if s.Name == Controller().Name {
			return true
		}
	}
	return false
}
