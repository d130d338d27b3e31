package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/api/resource"

	drydockv1 "drydock/api/drydock/v1"
)

// Flags are what drydock pod run takes instead of a manifest, as they were typed. Only Name and Image are needed.
type Flags struct {
	Name  string
	Image string
	// Volumes are NAME:/path[:ro] for a local volume, or shared=/host/path:/path[:ro] for what every host has.
	Volumes []string
	// Env are NAME=VALUE.
	Env []string
	// CPUs is a number, as 0.5. Memory has a unit of 1024, as 256MiB.
	CPUs   string
	Memory string
	// User is UID[:GID].
	User string
	// IP is an address, with or without its prefix length.
	IP string
	// Restart is always (the default), on-failure or never; OnHostLost is restart (the default) or wait.
	Restart       string
	OnHostLost    string
	AllowPostcopy bool
	// Affinity is the host that it belongs to.
	Affinity string
	Portable bool
	// At most one of these is given: a port; PORT/path; a program with arguments, separated by spaces.
	HealthTCP  string
	HealthHTTP string
	HealthExec string
	// Labels are KEY=VALUE.
	Labels   []string
	Hostname string
	// Service is what the pod serves, in the version Version.
	Service, Version string
	// Args take the place of the arguments that the image gives its entry point. With Command they take its place too.
	Args    []string
	Command bool
}

// FromFlags makes the PodSpec of a pod with one container, named as the pod. Everything that is wrong comes back in one
// *InvalidError that names the flags. The result has passed Validate.
func FromFlags(f Flags) (*drydockv1.PodSpec, error) {
	p := &parser{Flags: f}
	spec := &drydockv1.PodSpec{
		Name: f.Name, Hostname: f.Hostname, AllowPostcopy: f.AllowPostcopy, Portable: f.Portable, Affinity: f.Affinity, StopGrace: durationpb.New(defaultGrace),
		RestartPolicy: p.restart(), OnHostLost: p.onHostLost(), Labels: p.labels(),
		Containers: []*drydockv1.Container{{
			Name: f.Name, Image: f.Image, Args: f.Args, Env: p.env(), Resources: p.resources(), Security: p.user(),
			Probe: p.probe(),
		}},
	}
	if f.Command {
		spec.Containers[0].Command, spec.Containers[0].Args = f.Args, nil
	}
	if f.IP != "" {
		spec.Addresses = []string{f.IP}
	}
	for _, text := range f.Volumes {
		p.volume(spec, text)
	}
	for _, problem := range validate(spec) {
		problem.Field = flagField(problem.Field)
		if !slices.Contains(p.report, problem) { // NAME is the pod's name and its container's
			p.report = append(p.report, problem)
		}
	}
	if err := p.err(f.Name); err != nil {
		return nil, err
	}
	return spec, nil
}

type parser struct {
	Flags
	report
}

func (p *parser) restart() drydockv1.RestartPolicy {
	switch p.Restart {
	case "", "always":
		return drydockv1.RestartPolicy_RESTART_POLICY_ALWAYS
	case "on-failure":
		return drydockv1.RestartPolicy_RESTART_POLICY_ON_FAILURE
	case "never":
		return drydockv1.RestartPolicy_RESTART_POLICY_NEVER
	default:
		p.add("--restart", fmt.Sprintf("unknown: %q", p.Restart), "use always, on-failure or never")
		return drydockv1.RestartPolicy_RESTART_POLICY_UNSPECIFIED
	}
}

func (p *parser) onHostLost() drydockv1.OnHostLost {
	if p.OnHostLost == "" {
		return drydockv1.OnHostLost_ON_HOST_LOST_RESTART
	}
	policy, ok := onHostLost(p.OnHostLost)
	if !ok {
		p.add("--on-host-lost", fmt.Sprintf("unknown: %q", p.OnHostLost), "use restart or wait")
	}
	return policy
}

func (p *parser) labels() map[string]string {
	if len(p.Labels) == 0 && p.Service == "" && p.Version == "" {
		return nil
	}
	labels := map[string]string{}
	if (p.Service == "") != (p.Version == "") {
		p.add("--service, --version", "one is given without the other", "give both")
	}
	for key, value := range map[string]string{LabelService: p.Service, LabelVersion: p.Version} {
		if value != "" {
			labels[key] = value
		}
	}
	for _, text := range p.Labels {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			p.add("--label", fmt.Sprintf("%q has no key and value", text), "write it as KEY=VALUE")
		}
		labels[key] = value
	}
	return labels
}

func (p *parser) env() []*drydockv1.EnvVar {
	var env []*drydockv1.EnvVar
	for _, text := range p.Env {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			p.add("--env", fmt.Sprintf("%q has no value", text), "write it as NAME=VALUE")
			continue
		}
		env = append(env, &drydockv1.EnvVar{Name: name, Value: value})
	}
	return env
}

// resources are requested as much as they are limited.
func (p *parser) resources() *drydockv1.Resources {
	out := &drydockv1.Resources{}
	if p.CPUs != "" {
		q, err := resource.ParseQuantity(p.CPUs)
		if err != nil || q.Sign() <= 0 {
			p.add("--cpus", fmt.Sprintf("%q is not a number of CPUs", p.CPUs), "write it as 0.5, or leave it out for no limit")
		} else {
			out.CpuLimitMillis, out.CpuRequestMillis = q.MilliValue(), q.MilliValue()
		}
	}
	if p.Memory != "" {
		bytes, err := units.RAMInBytes(p.Memory)
		if err != nil || bytes <= 0 {
			p.add("--memory", fmt.Sprintf("%q is not a size", p.Memory), "write it as 256MiB, or leave it out for no limit")
		} else {
			out.MemoryLimitBytes, out.MemoryRequestBytes = bytes, bytes
		}
	}
	return out
}

func (p *parser) user() *drydockv1.Security {
	out := &drydockv1.Security{}
	if p.User == "" {
		return out
	}
	user, group, hasGroup := strings.Cut(p.User, ":")
	uid, err := strconv.ParseInt(user, 10, 64)
	out.RunAsUser = &uid
	if hasGroup && err == nil {
		var gid int64
		gid, err = strconv.ParseInt(group, 10, 64)
		out.RunAsGroup = &gid
	}
	if err != nil {
		p.add("--user", fmt.Sprintf("%q is not made of ids", p.User), "write it as 999 or 999:999; the image's user is the default")
		return &drydockv1.Security{}
	}
	return out
}

func (p *parser) probe() *drydockv1.Probe {
	out := &drydockv1.Probe{
		Period: durationpb.New(defaultPeriod), Timeout: durationpb.New(defaultTimeout), FailureThreshold: defaultFailures,
	}
	var given []string
	if p.HealthTCP != "" {
		given = append(given, "--health-tcp")
		out.Action = &drydockv1.Probe_Tcp{Tcp: &drydockv1.Probe_TCP{Port: p.port("--health-tcp", p.HealthTCP)}}
	}
	if p.HealthHTTP != "" {
		given = append(given, "--health-http")
		port, path, _ := strings.Cut(p.HealthHTTP, "/")
		number := p.port("--health-http", port)
		out.Action = &drydockv1.Probe_Http{Http: &drydockv1.Probe_HTTP{Port: number, Path: "/" + path}}
	}
	if p.HealthExec != "" {
		given = append(given, "--health-exec")
		if strings.ContainsAny(p.HealthExec, `"'\|&;<>$`+"`") {
			p.add("--health-exec", "quotes and shell syntax are not read", "use a manifest, or a script in the image")
		}
		command := strings.Fields(p.HealthExec)
		out.Action = &drydockv1.Probe_Exec_{Exec: &drydockv1.Probe_Exec{Command: command}}
	}
	if len(given) == 0 {
		return nil
	}
	if len(given) > 1 {
		p.add(strings.Join(given, ", "), "given together", "give one of them")
	}
	return out
}

func (p *parser) port(flag, text string) uint32 {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		p.add(flag, fmt.Sprintf("%q is not a port", text), "give 1 to 65535")
		return 1
	}
	return uint32(port)
}

// volume adds a mount, and its volume where the pod does not have it yet.
func (p *parser) volume(spec *drydockv1.PodSpec, text string) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || (len(parts) == 3 && parts[2] != "ro") {
		p.add("--volume", fmt.Sprintf("cannot read %q", text), "write it as NAME:/path[:ro] or shared=/host/path:/path[:ro]")
		return
	}
	name := parts[0]
	if shared, ok := strings.CutPrefix(name, "shared="); ok {
		name = sharedVolume(spec, shared)
	} else if !slices.ContainsFunc(spec.GetVolumes(), func(v *drydockv1.Volume) bool { return v.GetName() == name }) {
		spec.Volumes = append(spec.Volumes, &drydockv1.Volume{
			Name: name, Kind: &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}},
		})
	}
	c := spec.GetContainers()[0]
	c.Mounts = append(c.Mounts, &drydockv1.VolumeMount{Volume: name, Path: parts[1], ReadOnly: len(parts) == 3})
}

// sharedVolume finds or adds the volume of a path that all hosts have. A shared volume has no name on the command line.
func sharedVolume(spec *drydockv1.PodSpec, hostPath string) string {
	shared := 0
	for _, v := range spec.GetVolumes() {
		if v.GetShared() == nil {
			continue
		}
		if v.GetShared().GetPath() == hostPath {
			return v.GetName()
		}
		shared++
	}
	name := fmt.Sprintf("shared-%d", shared+1)
	spec.Volumes = append(spec.Volumes, &drydockv1.Volume{
		Name: name, Kind: &drydockv1.Volume_Shared_{Shared: &drydockv1.Volume_Shared{Path: hostPath}},
	})
	return name
}
