package lab

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// spec is all that a host's keeper and init need to know, written down by Up before the host's first start.
type spec struct {
	Lab      string            `json:"lab"`
	Node     string            `json:"node"`
	Hosts    []string          `json:"hosts"`
	Root     string            `json:"root"` // the cached root file system
	Services []Service         `json:"services"`
	Files    map[string]string `json:"files"` // written into the host at each start
}

func (l *Lab) specPath(node string) string { return l.nodeDir(node, "spec.json") }

// writeNode lays out everything on disk for one host, whose spec has no files yet but those that only it has.
func (l *Lab) writeNode(s spec, opts Options) error {
	node := s.Node
	for _, sub := range []string{"upper", "work", "root", "containerd", "data", "etc", "log"} {
		if err := os.MkdirAll(l.nodeDir(node, sub), 0o755); err != nil {
			return fmt.Errorf("host %s: %w", node, err)
		}
	}
	files := l.files(node)
	maps.Copy(files, s.Files)
	s.Lab, s.Hosts, s.Files = l.name, l.rec.Hosts, files
	if err := l.writeConfig(node, opts); err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	if err := writeJSON(l.specPath(node), s); err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	return nil
}

// writeConfig writes what Drydock's own service on a host reads.
func (l *Lab) writeConfig(node string, opts Options) error {
	faultDir := ""
	if opts.FaultPoints {
		faultDir = "fault-dir: /etc/drydock/faults\n"
		if err := os.MkdirAll(l.FaultDir(node), 0o755); err != nil {
			return err
		}
	}
	switch {
	case node == PackagesNode:
		return nil
	case isController(node):
		return l.writeController(node, faultDir, opts)
	}
	return os.WriteFile(filepath.Join(l.ConfigDir(node), "agent.yaml"), []byte(l.agentConfig(node)+faultDir), 0o644)
}

// refreshInterval is how often hosts ask for updates by themselves: never where they have nowhere to ask, as a lab's work is
// measured.
func (l *Lab) refreshInterval() string {
	if l.rec.Updates.Pending() {
		return "1h"
	}
	return "0s"
}

func (l *Lab) agentConfig(node string) string {
	return fmt.Sprintf(`name: %s
listen: %s:7444
controller: [%s]
data-dir: /var/lib/drydock
run-dir: /run/drydock
containerd: {socket: /run/containerd/containerd.sock}
cgroup-parent: /%s
network: {bridge: %s}
join: {token-file: /etc/drydock/token}
packages: {refresh-interval: %s}
reboot: {command: ["%s"]}
`, node, l.Address(node), strings.Join(l.controllerURLs(node), ", "), l.nodeGroup(node), hostBridge, l.refreshInterval(), strings.Join(rebootCommand(), `", "`))
}

// Pool is the name of the pool that all hosts of a lab are in.
const Pool = "lab"

// poolConfig has nobody wait long: what a lab's hosts show after their patch, they show soon.
func (l *Lab) poolConfig() string {
	fence := ""
	if l.rec.Driver == DriverVM {
		fence = fmt.Sprintf("fence: {command: [/usr/bin/drydock, lab, reset, \"%s/{host}\"]}\n", monitorsInNode)
	}
	return fmt.Sprintf(`# All hosts of this lab, one after the other.
name: %s
hosts: {names: [%s]}
pods: {modes: [stop], downtime-budget: 10s}
soak: {host: 2s, canaries: 5s}
%s`, Pool, strings.Join(l.rec.Hosts, ", "), fence)
}

// containerdConfig leaves out what only Kubernetes and hosts with other file systems use; containerd then starts faster.
const containerdConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.tracing",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
`

func (l *Lab) files(node string) map[string]string {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for _, n := range append(l.nodes(), ClientNode) {
		fmt.Fprintf(&hosts, "%s %s\n", l.Address(n), n)
	}
	return map[string]string{
		"/etc/hostname":               node + "\n",
		"/etc/hosts":                  hosts.String(),
		"/etc/containerd/config.toml": containerdConfig,
	}
}
