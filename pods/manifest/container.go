package manifest

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	drydockv1 "drydock/api/drydock/v1"
)

func (d *decoder) container(i int) *drydockv1.Container {
	in := d.pod.Spec.Containers[i]
	field := fmt.Sprintf("spec.containers[%d]", i)
	out := &drydockv1.Container{
		Name: in.Name, Image: in.Image, WorkingDir: in.WorkingDir,
		Resources: &drydockv1.Resources{
			CpuLimitMillis:     in.Resources.Limits.Cpu().MilliValue(),
			MemoryLimitBytes:   in.Resources.Limits.Memory().Value(),
			CpuRequestMillis:   requested(in.Resources, corev1.ResourceCPU).MilliValue(),
			MemoryRequestBytes: requested(in.Resources, corev1.ResourceMemory).Value(),
		},
		Security: d.security(in.SecurityContext, field+".securityContext"),
		Probe:    d.probe(in, field+".livenessProbe"),
	}
	values := map[string]string{}
	for _, e := range in.Env {
		value := expand(e.Value, values)
		values[e.Name] = value
		out.Env = append(out.Env, &drydockv1.EnvVar{Name: e.Name, Value: value})
	}
	for _, word := range in.Command {
		out.Command = append(out.Command, expand(word, values))
	}
	for _, word := range in.Args {
		out.Args = append(out.Args, expand(word, values))
	}
	for _, m := range in.VolumeMounts {
		out.Mounts = append(out.Mounts, &drydockv1.VolumeMount{
			Volume: m.Name, Path: m.MountPath, ReadOnly: m.ReadOnly, SubPath: m.SubPath,
		})
	}
	return out
}

// requested is the limit where only that is given, as in Kubernetes.
func requested(r corev1.ResourceRequirements, name corev1.ResourceName) *resource.Quantity {
	for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
		if q, ok := list[name]; ok {
			return &q
		}
	}
	return &resource.Quantity{}
}

// security is the container's settings over the pod's.
func (d *decoder) security(own *corev1.SecurityContext, field string) *drydockv1.Security {
	out := &drydockv1.Security{}
	nonRoot := false
	if pod := d.pod.Spec.SecurityContext; pod != nil {
		out.RunAsUser, out.RunAsGroup, out.SupplementaryGroups = pod.RunAsUser, pod.RunAsGroup, pod.SupplementalGroups
		nonRoot = pod.RunAsNonRoot != nil && *pod.RunAsNonRoot
	}
	if own != nil {
		if own.RunAsUser != nil {
			out.RunAsUser = own.RunAsUser
		}
		if own.RunAsGroup != nil {
			out.RunAsGroup = own.RunAsGroup
		}
		if own.RunAsNonRoot != nil {
			nonRoot = *own.RunAsNonRoot
		}
		out.ReadOnlyRoot = own.ReadOnlyRootFilesystem != nil && *own.ReadOnlyRootFilesystem
		if own.Capabilities != nil {
			out.AddCapabilities = capabilityNames(own.Capabilities.Add)
			out.DropCapabilities = capabilityNames(own.Capabilities.Drop)
		}
	}
	if nonRoot && out.GetRunAsUser() == 0 {
		d.add(field+".runAsNonRoot", "the image's user is not known here", "give a runAsUser other than 0 beside it")
	}
	return out
}

// capabilityNames leaves out CAP_, as Kubernetes writes them.
func capabilityNames(list []corev1.Capability) []string {
	var names []string
	for _, c := range list {
		names = append(names, strings.TrimPrefix(string(c), "CAP_"))
	}
	return names
}

func (d *decoder) probe(c corev1.Container, field string) *drydockv1.Probe {
	in := c.LivenessProbe
	if in == nil {
		return nil
	}
	out := &drydockv1.Probe{
		InitialDelay:     durationpb.New(seconds(int64(in.InitialDelaySeconds))),
		Period:           secondsOr(in.PeriodSeconds, defaultPeriod),
		Timeout:          secondsOr(in.TimeoutSeconds, defaultTimeout),
		FailureThreshold: in.FailureThreshold,
	}
	if out.FailureThreshold == 0 {
		out.FailureThreshold = defaultFailures
	}
	actions := 0
	if in.Exec != nil {
		actions++
		out.Action = &drydockv1.Probe_Exec_{Exec: &drydockv1.Probe_Exec{Command: in.Exec.Command}}
	}
	if in.TCPSocket != nil {
		actions++
		port := d.port(c, in.TCPSocket.Port, field+".tcpSocket.port")
		out.Action = &drydockv1.Probe_Tcp{Tcp: &drydockv1.Probe_TCP{Port: port}}
	}
	if in.HTTPGet != nil {
		actions++
		port := d.port(c, in.HTTPGet.Port, field+".httpGet.port")
		path := in.HTTPGet.Path
		if path == "" {
			path = "/"
		}
		out.Action = &drydockv1.Probe_Http{Http: &drydockv1.Probe_HTTP{Port: port, Path: path}}
	}
	if actions > 1 {
		d.add(field, fmt.Sprintf("has %d actions", actions), "give one of exec, tcpSocket and httpGet")
	}
	return out
}

// port resolves a port's name among the container's ports.
func (d *decoder) port(c corev1.Container, p intstr.IntOrString, field string) uint32 {
	if p.Type == intstr.Int {
		if p.IntVal < 0 {
			return 0 // which validate reports
		}
		return uint32(p.IntVal)
	}
	for _, known := range c.Ports {
		if known.Name == p.StrVal {
			return uint32(max(known.ContainerPort, 0))
		}
	}
	d.add(field, fmt.Sprintf("no port is called %q", p.StrVal), "name one of the container's ports, or give its number")
	return 1
}

func secondsOr(n int32, otherwise time.Duration) *durationpb.Duration {
	if n == 0 {
		return durationpb.New(otherwise)
	}
	return durationpb.New(seconds(int64(n)))
}

// expand replaces $(NAME) by a variable set before, and $$ by $, as Kubernetes does in values, commands and arguments.
// What names no variable stays as it is.
func expand(text string, values map[string]string) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i == len(text)-1 {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(text[:i])
		text = text[i+1:]
		switch {
		case text[0] == '$':
			out.WriteByte('$')
			text = text[1:]
		case text[0] == '(' && strings.IndexByte(text, ')') > 0:
			end := strings.IndexByte(text, ')')
			if value, ok := values[text[1:end]]; ok {
				out.WriteString(value)
			} else {
				out.WriteString("$" + text[:end+1])
			}
			text = text[end+1:]
		default:
			out.WriteByte('$')
		}
	}
}
