package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"drydock/internal/config"
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

// writeNode lays out everything on disk for one host.
func (l *Lab) writeNode(node, root string, services []Service, opts Options) error {
	for _, sub := range []string{"upper", "work", "root", "containerd", "data", "etc", "log"} {
		if err := os.MkdirAll(l.nodeDir(node, sub), 0o755); err != nil {
			return fmt.Errorf("host %s: %w", node, err)
		}
	}
	s := spec{Lab: l.name, Node: node, Hosts: l.rec.Hosts, Root: root, Services: services, Files: l.files(node)}
	file, text := "agent.yaml", l.agentConfig(node)
	if node == ControllerNode {
		file, text = "controller.yaml", controllerConfig(opts)
	} else if opts.FaultPoints {
		text += "fault-dir: /etc/drydock/faults\n"
		if err := os.MkdirAll(l.FaultDir(node), 0o755); err != nil {
			return fmt.Errorf("host %s: %w", node, err)
		}
	}
	if err := os.WriteFile(filepath.Join(l.ConfigDir(node), file), []byte(text), 0o644); err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	if err := writeJSON(l.specPath(node), s); err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	return nil
}

// agentConfig has no host ask Debian's archives by itself: a lab's work is measured, and need not reach them.
func (l *Lab) agentConfig(node string) string {
	return fmt.Sprintf(`name: %s
listen: %s:7444
controller: [https://%s:7443]
data-dir: /var/lib/drydock
run-dir: /run/drydock
containerd: {socket: /run/containerd/containerd.sock}
cgroup-parent: /%s
network: {bridge: %s}
join: {token-file: /etc/drydock/token}
packages: {refresh-interval: 0s}
`, node, l.Address(node), controllerAddr, l.nodeGroup(node), hostBridge)
}

func controllerConfig(opts Options) string {
	bits, gateway, kind := networkBits, "", opts.Network
	if opts.PortSecurity {
		bits, gateway = podBits, PodGateway
	}
	if kind == "" {
		kind = config.NetworkAuto
	}
	return fmt.Sprintf(`name: %s
listen: %s:7443
socket: /run/drydock-api/controller.sock
data-dir: /var/lib/drydock/controller
pod-cidr: %s
pod-prefix-length: %d
gateway: %q
network: {kind: %s}
`, ControllerNode, controllerAddr, PodCIDR, bits, gateway, kind)
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
