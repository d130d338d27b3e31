// Package spec turns one container of a pod into an OCI runtime specification.
//
// The specification is made so that CRIU can move the container, and quickly: it depends on its input only, never on
// the host it is built on, because the same one must fit the host that the pod moves to; and it holds as few mounts as
// programs can do with, since every tmpfs is packed with tar inside the freeze, once on each side.
package spec

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/seccomp"
)

// Annotations of a container's specification. AnnotationCRIUConfig is runc's: the file that CRIU reads its options from.
const (
	AnnotationCRIUConfig = "org.criu.config"
	AnnotationPod        = "drydock.pod"
	AnnotationContainer  = "drydock.container"
	AnnotationEpoch      = "drydock.epoch"
)

// defaultPath is the search path of a container whose image names none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Input is everything that a container's specification is made from. All paths are absolute ones of the host.
type Input struct {
	// Pod must have passed manifest.Validate. Container is the index of one of its containers.
	Pod       *drydockv1.PodSpec
	Container int
	// Image is the container's image configuration.
	Image v1.ImageConfig
	// RootFS is where the container's root can be read while the specification is built, to look up users and groups.
	// It does not become part of the specification: containerd mounts the root where its shim wants it.
	RootFS string
	// Epoch of the pod's owner.
	Epoch uint64
	// NetNS is the path of the pod's network namespace; CRIU takes it as given, so it must be there before a restore.
	NetNS string
	// Cgroup is the container's cgroup below the hierarchies' roots. Cgroup2 says that the host has the unified hierarchy.
	Cgroup  string
	Cgroup2 bool
	// Volumes has the host directory of every local and shared volume, by the volume's name.
	Volumes map[string]string
	// Hosts, Hostname and ResolvConf are files bound read-only over the container's own ones in /etc.
	Hosts, Hostname, ResolvConf string
	// Empty is an empty directory, bound over what nobody inside may see.
	Empty string
	// CRIUConfig is a CRIU configuration file for checkpoint and restore.
	CRIUConfig string
}

// Build returns the specification. Missing sub paths are created in their volumes. The errors name the pod, the container
// and what to change.
func Build(ctx context.Context, in Input) (*specs.Spec, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	c := in.Pod.GetContainers()[in.Container]
	fail := func(err error) error {
		return fmt.Errorf("pod %s: container %s: %w", in.Pod.GetName(), c.GetName(), err)
	}
	args, err := arguments(c, in.Image)
	if err != nil {
		return nil, fail(err)
	}
	mounts, err := in.mounts(c)
	if err != nil {
		return nil, fail(err)
	}
	caps := capabilities(c.GetSecurity())
	s := &specs.Spec{
		Version:  specs.Version,
		Hostname: hostname(in.Pod),
		Root:     &specs.Root{Path: in.RootFS, Readonly: c.GetSecurity().GetReadOnlyRoot()},
		Mounts:   mounts,
		Process: &specs.Process{
			Args:            args,
			Cwd:             workingDir(c, in.Image),
			NoNewPrivileges: true,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:         rlimits(),
			OOMScoreAdj:     oomScore(),
		},
		Linux: &specs.Linux{
			CgroupsPath:   in.Cgroup,
			Namespaces:    namespaces(in.NetNS),
			Resources:     resources(c.GetResources(), in.Cgroup2),
			MaskedPaths:   maskedPaths(),
			ReadonlyPaths: readonlyPaths(),
			Seccomp:       seccomp.Profile(caps),
		},
		Annotations: map[string]string{
			AnnotationCRIUConfig: in.CRIUConfig,
			AnnotationPod:        in.Pod.GetName(),
			AnnotationContainer:  c.GetName(),
			AnnotationEpoch:      strconv.FormatUint(in.Epoch, 10),
		},
	}
	opts := append(environment(in.Pod, c, in.Image), user(c.GetSecurity(), in.Image.User)...)
	// An empty record makes the options look into Root.Path.
	if err := oci.ApplyOpts(ctx, nil, &containers.Container{}, s, opts...); err != nil {
		return nil, fail(fmt.Errorf("user and groups: %w; name ids instead, or users that the image has", err))
	}
	s.Root.Path = "rootfs"
	return s, nil
}

func (in Input) check() error {
	if n := len(in.Pod.GetContainers()); in.Container < 0 || in.Container >= n {
		return fmt.Errorf("pod %s: no container %d, it has %d", in.Pod.GetName(), in.Container, n)
	}
	var problems []error
	for _, p := range []struct{ name, path string }{
		{"root file system", in.RootFS}, {"network namespace", in.NetNS}, {"cgroup", in.Cgroup},
		{"hosts file", in.Hosts}, {"hostname file", in.Hostname}, {"resolv.conf", in.ResolvConf},
		{"empty directory", in.Empty}, {"criu configuration", in.CRIUConfig},
	} {
		if !filepath.IsAbs(p.path) {
			problems = append(problems, fmt.Errorf("pod %s: %s: %q is not an absolute path", in.Pod.GetName(), p.name, p.path))
		}
	}
	return errors.Join(problems...)
}

func hostname(p *drydockv1.PodSpec) string {
	if p.GetHostname() != "" {
		return p.GetHostname()
	}
	return p.GetName()
}

// namespaces gives every container its own, save for the network: CRIU under runc takes network and PID namespaces
// from outside, but neither IPC nor UTS ones.
func namespaces(netns string) []specs.LinuxNamespace {
	return []specs.LinuxNamespace{
		{Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
		{Type: specs.MountNamespace},
		{Type: specs.NetworkNamespace, Path: netns},
	}
}

// maskedPaths are files that tell of other pods or of the host. Only files: runc hides a file behind /dev/null, which CRIU
// binds again, but a directory behind a tmpfs of its own, which is packed and unpacked inside the freeze. What is
// there on one host only would stop a restore on another, so paths that depend on hardware are not listed;
// /proc/kcore needs CAP_SYS_RAWIO, which no pod gets.
func maskedPaths() []string {
	return []string{"/proc/interrupts", "/proc/keys", "/proc/timer_list"}
}

// readonlyPaths are what root could write to without any capability. Directories of hardware (acpi, scsi) are here, not
// masked, for the reason above.
func readonlyPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/bus", "/proc/driver", "/proc/fs", "/proc/irq", "/proc/scsi", "/proc/sys",
		"/proc/sysrq-trigger",
	}
}

// ProtectedPaths are the paths that a container has mounts on only where the kernel has them. A pod can move only to a
// host that has the same ones: elsewhere the restore would have no place to mount on, or would leave them open.
func ProtectedPaths() []string {
	return append(maskedPaths(), readonlyPaths()...)
}
