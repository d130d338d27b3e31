package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"drydock/internal/clictx"
)

// Where labs keep what they make.
const (
	cacheTop = "/var/cache/drydock/lab" // root file systems and locks; outlives labs
	stateTop = "/var/lib/drydock-lab"   // what a lab writes
	runTop   = "/run/drydock/lab"       // sockets and pinned namespaces
	groupTop = "drydock-lab"            // parent of the labs' cgroups in every hierarchy
)

// Nodes of a lab that are not hosts for pods.
const (
	ControllerNode = "ctl"    // the host that the first controller runs in
	ClientNode     = "client" // the third party's network namespace
	switchNode     = "switch" // the network namespace that holds the bridge
)

// PodCIDR is the part of a lab's network that pods get their addresses from.
const PodCIDR = "10.77.128.0/17"

// PodGateway is the pods' default route in a lab with PortSecurity, where pods are not on the hosts' network. Nothing has
// the address unless somebody gives it to a host.
const (
	PodGateway = "10.77.128.1"
	podBits    = 17
)

const (
	networkBits    = 16
	controllerAddr = "10.77.0.2"
	clientAddr     = "10.77.0.9"
)

// ErrNotFound is returned, wrapped, for a lab that was never brought up, or not to its end.
var ErrNotFound = errors.New("no such lab")

// ErrRunning is returned, wrapped, by Up for a lab that is already up and whole.
var ErrRunning = errors.New("lab is already up")

var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)

// Lab is one lab on this machine. Its methods read what is on disk each time and may be used from several processes
// and goroutines at once.
type Lab struct {
	name string
	rec  record
}

// record is what Up writes down about a lab before it makes anything.
type record struct {
	Hosts []string `json:"hosts"`
	// Controllers is how many there are; 0 in what was written before there could be several: one.
	Controllers int       `json:"controllers,omitempty"`
	Contexts    string    `json:"contexts"` // the file that holds the lab's context
	Created     time.Time `json:"created"`
	Complete    bool      `json:"complete"` // Up came to its end
	// PortSecurity: the switch knows one MAC of each host.
	PortSecurity bool    `json:"port_security,omitempty"`
	Updates      Updates `json:"updates"`
	// Driver is DriverVM, or empty; Images are what its machines are made from, by host.
	Driver string            `json:"driver,omitempty"`
	Images map[string]string `json:"images,omitempty"`
}

// Open finds the lab called name. The error wraps ErrNotFound if there is none that was brought up to its end.
func Open(name string) (*Lab, error) {
	l := &Lab{name: name}
	if err := l.load(); err != nil {
		return nil, err
	}
	if !l.rec.Complete {
		return nil, fmt.Errorf("lab %s is half made: %w; bring it up again or down", name, ErrNotFound)
	}
	return l, nil
}

// List names every lab of which anything is left on this machine, in order.
func List() ([]string, error) {
	tops := []string{stateTop, runTop}
	hs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for _, h := range hs {
		tops = append(tops, h.dir(groupTop))
	}
	var names []string
	for _, top := range tops {
		entries, err := os.ReadDir(top)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list labs: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && nameRule.MatchString(e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.name }

// Hosts names the hosts for pods: h1, h2 and so on.
func (l *Lab) Hosts() []string { return slices.Clone(l.rec.Hosts) }

// nodes names everything that runs an init.
func (l *Lab) nodes() []string {
	first := l.Controllers()
	if l.rec.Updates.Pending() {
		first = append(first, PackagesNode)
	}
	return append(first, l.rec.Hosts...)
}

// joined tells whether a node's init has a network namespace of its own. The packages' node is on the switch with one that
// outlives its init, which itself is in the machine's network.
func joined(node string) bool { return node != PackagesNode }

// Address is the address of a host, of a controller, or of the client.
func (l *Lab) Address(node string) string { return address(node, l.rec.Hosts) }

// Socket is where the first controller's API is reachable on the machine.
func (l *Lab) Socket() string { return l.SocketOf(ControllerNode) }

// DataDir is where on the machine a host's /var/lib/drydock lies.
func (l *Lab) DataDir(host string) string { return l.nodeDir(host, "data") }

// ConfigDir is where on the machine a host's /etc/drydock lies.
func (l *Lab) ConfigDir(host string) string { return l.nodeDir(host, "etc") }

// FaultDir is where on the machine the points lie at which a host's agent, or a controller, is to stop, if Options.FaultPoints was set: for a
// file of a point's name, which becomes NAME.reached when the agent stands there; it goes on when that is removed. Controllers have
// theirs in common: the first one that comes to a point stops there.
func (l *Lab) FaultDir(host string) string {
	if isController(host) {
		host = ControllerNode
	}
	return filepath.Join(l.ConfigDir(host), "faults")
}

// LogDir is where on the machine a host's logs lie: one file for each service, and keeper.log.
func (l *Lab) LogDir(host string) string { return l.nodeDir(host, "log") }

// SharedDir is where on the machine the hosts' common /srv/shared lies.
func (l *Lab) SharedDir() string { return filepath.Join(l.stateDir(), "shared") }

// Context is how the command line reaches the lab's controllers: over sockets that only root may use, so without
// credentials.
func (l *Lab) Context() clictx.Context {
	return clictx.Context{Name: l.contextName(), Server: "unix://" + strings.Join(l.Sockets(), ",unix://")}
}

// Env is what to set so that commands talk to this lab, as KEY=VALUE.
func (l *Lab) Env() []string {
	return []string{clictx.EnvFile + "=" + l.rec.Contexts, clictx.EnvContext + "=" + l.contextName(), "DRYDOCK_LAB=" + l.name}
}

func (l *Lab) contextName() string { return "lab-" + l.name }
func (l *Lab) stateDir() string    { return filepath.Join(stateTop, l.name) }
func (l *Lab) runDir() string      { return filepath.Join(runTop, l.name) }
func (l *Lab) binary() string      { return filepath.Join(l.stateDir(), "bin", "drydock") }
func (l *Lab) group() string       { return filepath.Join(groupTop, l.name) }

func (l *Lab) nodeDir(node string, rest ...string) string {
	return filepath.Join(append([]string{l.stateDir(), "hosts", node}, rest...)...)
}

func (l *Lab) load() error {
	if !nameRule.MatchString(l.name) {
		return fmt.Errorf("lab name %q: use at most 20 lower-case letters, digits and hyphens", l.name)
	}
	err := readJSON(filepath.Join(l.stateDir(), "lab.json"), &l.rec)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab %s: %w; `drydock lab up --name %s` makes it", l.name, ErrNotFound, l.name)
	}
	return err
}

func (l *Lab) save() error { return writeJSON(filepath.Join(l.stateDir(), "lab.json"), l.rec) }

func address(node string, hosts []string) string {
	if number := controllerNumber(node); number > 0 {
		return controllerAddress(number)
	}
	switch node {
	case ClientNode:
		return clientAddr
	case PackagesNode:
		return packagesAddr
	}
	return fmt.Sprintf("10.77.0.%d", 11+slices.Index(hosts, node))
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON puts the file in place whole, so that a reader never sees a part of it.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
