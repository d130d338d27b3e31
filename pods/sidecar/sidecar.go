// Package sidecar says what a shim is as a part of its pod: a container beside the others, with the agent's own program, and a volume
// that has its configuration, its control socket and what it keeps. So all of it moves with the pod, and the program that it was
// started with moves too.
package sidecar

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// Name is that of the volume, and the beginning of the containers' names: while one program takes over from another there are two.
const Name = "drydock-shim"

// What the volume holds, and where the shim sees it. It cannot write to its configuration.
const (
	ConfigDir = "config"
	runDir    = "run"
	stateDir  = "state"

	inside = "/shim"
	// Socket is the control socket, in the volume.
	Socket = runDir + "/shim.sock"
	// ConfigFile is in the volume too.
	ConfigFile = ConfigDir + "/shim.yaml"
)

// Program is where the shim's image has it.
const Program = "/drydock"

// firstPort is the shim's own for the first of the ports that are led to it. It is bound to the loopback: nobody outside of the pod
// reaches it, and the pod's own connections are not led.
const firstPort = 15080

// Is tells whether a container is a shim.
func Is(container string) bool {
	return container == Name || strings.HasPrefix(container, Name+"-")
}

// Gateway tells whether a shim leads calls to other pods.
func Gateway(shim *drydockv1.ShimSpec) bool { return len(shim.GetBackends()) > 0 }

// In is the shims of a pod, the newest last.
func In(pod *drydockv1.PodSpec) []string {
	var names []string
	for _, c := range pod.GetContainers() {
		if Is(c.GetName()) {
			names = append(names, c.GetName())
		}
	}
	return names
}

// Add gives a pod one more container with a shim, from an image of the program, and returns the container's name.
func Add(pod *drydockv1.PodSpec, reference, digest string) string {
	name := Name
	if newest := In(pod); len(newest) > 0 {
		n, _ := strconv.Atoi(strings.TrimPrefix(newest[len(newest)-1], Name+"-"))
		name = fmt.Sprintf("%s-%d", Name, max(n, 1)+1)
	}
	pod.Containers = append(pod.Containers, &drydockv1.Container{
		Name: name, Image: reference, ImageDigest: digest,
		Command: []string{Program, "shim", "serve", "--config", path.Join(inside, ConfigFile)},
		// A socket of Multipath TCP cannot be checkpointed.
		Env:      []*drydockv1.EnvVar{{Name: "GODEBUG", Value: "multipathtcp=0"}},
		Security: &drydockv1.Security{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_BIND_SERVICE"}},
		Mounts: []*drydockv1.VolumeMount{
			{Volume: Name, Path: path.Join(inside, ConfigDir), SubPath: ConfigDir, ReadOnly: true},
			{Volume: Name, Path: path.Join(inside, runDir), SubPath: runDir},
			{Volume: Name, Path: path.Join(inside, stateDir), SubPath: stateDir},
		},
	})
	if !slices.ContainsFunc(pod.Volumes, func(v *drydockv1.Volume) bool { return v.GetName() == Name }) {
		pod.Volumes = append(pod.Volumes, &drydockv1.Volume{Name: Name, Kind: &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}}})
	}
	return name
}

// Remove takes a container away again. The volume stays: a shim that comes later finds what was kept.
func Remove(pod *drydockv1.PodSpec, container string) {
	pod.Containers = slices.DeleteFunc(pod.Containers, func(c *drydockv1.Container) bool { return c.GetName() == container })
}

// Steered is a port of the pod's program, and where the shim listens in its place, on the loopback.
type Steered struct {
	Port, At uint16
	IPv6     bool
}

// Steer is what is to be led to a pod's shim; nothing where it has none, or one that owns its ports.
func Steer(pod *drydockv1.PodSpec) []Steered {
	shim := pod.GetShim()
	if shim == nil || Gateway(shim) {
		return nil
	}
	var out []Steered
	for i, port := range shim.GetPorts() {
		four := Steered{Port: uint16(port), At: uint16(firstPort + i)}
		out = append(out, four)
		if hasIPv6(pod) {
			out = append(out, Steered{Port: four.Port, At: four.At, IPv6: true})
		}
	}
	return out
}

// Check says what is wrong with a shim, but for its record.
func Check(shim *drydockv1.ShimSpec) error {
	switch {
	case len(shim.GetPorts()) == 0:
		return fmt.Errorf("the shim of service %s has no port: name those that clients connect to", shim.GetService())
	case (shim.GetVersion() == "") == !Gateway(shim):
		return fmt.Errorf("the shim of service %s needs the version that the pod's program speaks, or backends, and not both", shim.GetService())
	}
	for i, port := range shim.GetPorts() {
		if port == 0 || port > 65535 || slices.Contains(shim.GetPorts()[:i], port) {
			return fmt.Errorf("port %d of the shim of service %s is no port, or there twice", port, shim.GetService())
		}
	}
	for name := range shim.GetFiles() {
		if !filepath.IsLocal(name) || path.Clean(name) != name || name == recordFile {
			return fmt.Errorf("file %q of the shim of service %s does not lie beside its record", name, shim.GetService())
		}
	}
	return nil
}

// address is one that the pod's program can be reached at from inside the pod, whatever it listens at.
func address(pod *drydockv1.PodSpec) string {
	for _, text := range pod.GetAddresses() {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			return prefix.Addr().String()
		}
	}
	return "127.0.0.1"
}

func hasIPv6(pod *drydockv1.PodSpec) bool {
	return slices.ContainsFunc(pod.GetAddresses(), func(text string) bool {
		prefix, err := netip.ParsePrefix(text)
		return err == nil && prefix.Addr().Is6()
	})
}

func (s Steered) address() string {
	if s.IPv6 {
		return hostPort("::1", s.At)
	}
	return hostPort("127.0.0.1", s.At)
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
