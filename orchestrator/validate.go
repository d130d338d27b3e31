package orchestrator

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
)

// reserved is how the containers and the volume of a pod's shim are named.
const reserved = "drydock-shim"

// validSpec says all that is wrong with what an operator asks for.
func validSpec(spec *drydockv1.PodSpec) error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !config.ValidName(spec.GetName()) {
		bad("name %q must be 1 to 63 of a-z, 0-9 and -", spec.GetName())
	}
	if spec.GetHostname() != "" && !config.ValidName(spec.GetHostname()) {
		bad("hostname %q must be 1 to 63 of a-z, 0-9 and -", spec.GetHostname())
	}
	if spec.GetMac() != "" {
		bad("a MAC cannot be asked for: it is given with the address")
	}
	if spec.GetMtu() != 0 {
		bad("an MTU cannot be asked for: it is that of the network")
	}
	if grace := spec.GetStopGrace(); grace != nil && (!grace.IsValid() || grace.AsDuration() < 0) {
		bad("stop grace must not be negative")
	}
	volumes := validVolumes(spec, bad)
	if len(spec.GetContainers()) == 0 {
		bad("it has no container: give an image")
	}
	names := make(map[string]bool)
	for _, container := range spec.GetContainers() {
		validContainer(container, volumes, bad)
		if names[container.GetName()] {
			bad("two containers are named %q", container.GetName())
		}
		names[container.GetName()] = true
	}
	if len(problems) == 0 {
		return nil
	}
	return invalid("pod %q: %w", spec.GetName(), errors.Join(problems...))
}

func validVolumes(spec *drydockv1.PodSpec, bad func(string, ...any)) map[string]bool {
	volumes := make(map[string]bool)
	for _, volume := range spec.GetVolumes() {
		if strings.HasPrefix(volume.GetName(), reserved) {
			bad("volume %q: names that begin with %s are for shims", volume.GetName(), reserved)
		}
		if !config.ValidName(volume.GetName()) {
			bad("volume %q must be named with 1 to 63 of a-z, 0-9 and -", volume.GetName())
		}
		if volumes[volume.GetName()] {
			bad("two volumes are named %q", volume.GetName())
		}
		volumes[volume.GetName()] = true
		switch kind := volume.GetKind().(type) {
		case nil:
			bad("volume %q is neither local nor shared nor memory", volume.GetName())
		case *drydockv1.Volume_Shared_:
			if !path.IsAbs(kind.Shared.GetPath()) {
				bad("volume %q: path %q of the hosts is not absolute", volume.GetName(), kind.Shared.GetPath())
			}
		}
	}
	return volumes
}

func validContainer(container *drydockv1.Container, volumes map[string]bool, bad func(string, ...any)) {
	name := container.GetName()
	if strings.HasPrefix(name, reserved) {
		bad("container %q: names that begin with %s are for shims", name, reserved)
	}
	if !config.ValidName(name) {
		bad("container %q must be named with 1 to 63 of a-z, 0-9 and -", name)
	}
	if container.GetImage() == "" {
		bad("container %q has no image", name)
	}
	for _, mount := range container.GetMounts() {
		if !volumes[mount.GetVolume()] {
			bad("container %q mounts %q, which is no volume of the pod", name, mount.GetVolume())
		}
		if !path.IsAbs(mount.GetPath()) || path.Clean(mount.GetPath()) == "/" {
			bad("container %q cannot mount %q at %q", name, mount.GetVolume(), mount.GetPath())
		}
	}
	limits := container.GetResources()
	if limits.GetCpuLimitMillis() < 0 || limits.GetMemoryLimitBytes() < 0 || limits.GetCpuRequestMillis() < 0 || limits.GetMemoryRequestBytes() < 0 {
		bad("container %q has a negative limit", name)
	}
	if probe := container.GetProbe(); probe != nil && probe.GetAction() == nil {
		bad("container %q has a probe without exec, tcp or http", name)
	}
}

// defaultStopGrace is how long a container may take to end where nothing else is asked for.
const defaultStopGrace = 10

// complete fills in what an operator left to the defaults.
func complete(spec *drydockv1.PodSpec) {
	if containers := spec.GetContainers(); len(containers) == 1 && containers[0].GetName() == "" {
		containers[0].Name = spec.GetName()
	}
	if spec.GetHostname() == "" {
		spec.Hostname = spec.GetName()
	}
	if spec.GetRestartPolicy() == drydockv1.RestartPolicy_RESTART_POLICY_UNSPECIFIED {
		spec.RestartPolicy = drydockv1.RestartPolicy_RESTART_POLICY_ALWAYS
	}
	if spec.GetOnHostLost() == drydockv1.OnHostLost_ON_HOST_LOST_UNSPECIFIED {
		spec.OnHostLost = drydockv1.OnHostLost_ON_HOST_LOST_RESTART
	}
	if spec.GetStopGrace() == nil {
		spec.StopGrace = &durationpb.Duration{Seconds: defaultStopGrace}
	}
}
