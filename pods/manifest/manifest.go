// Package manifest turns what an operator writes - a Kubernetes v1 Pod manifest or flags - into a PodSpec, and checks
// PodSpecs. What Drydock does not honour is refused by name, never ignored, and everything that is wrong is reported at
// once, each with what would make it right.
package manifest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	drydockv1 "drydock/api/drydock/v1"
)

// Labels that Drydock reads: what a pod serves, and, for each service whose name follows LabelSpeaks, which version of it the pod
// speaks as its client.
const (
	LabelService = "drydock/service"
	LabelVersion = "drydock/version"
	LabelSpeaks  = "speaks.drydock/"
	// LabelPorts are those at which the pod serves, with dots between them; without it they are its probe's.
	LabelPorts = "drydock/ports"
	// LabelGateway is on a pod that Drydock runs itself: whose service's gateway it is.
	LabelGateway = "drydock/gateway"
)

// Annotations that Drydock reads from a manifest; others below drydock/ are refused.
const (
	// AnnotationAddress asks for an address, as 10.77.1.5 or 10.77.1.5/16.
	AnnotationAddress = "drydock/address"
	// AnnotationOnHostLost is restart or wait.
	AnnotationOnHostLost = "drydock/on-host-lost"
	// AnnotationAllowPostcopy is true or false.
	AnnotationAllowPostcopy = "drydock/allow-postcopy"
	// AnnotationAffinity names the host that the pod belongs to.
	AnnotationAffinity = "drydock/affinity"
	// AnnotationPortable is true or false.
	AnnotationPortable = "drydock/portable"
	// AnnotationSharedVolumes names the hostPath volumes, separated by commas, that are the same on every host.
	AnnotationSharedVolumes = "drydock/shared-volumes"
)

const (
	defaultGrace    = 30 * time.Second
	defaultPeriod   = 10 * time.Second
	defaultTimeout  = time.Second
	defaultFailures = 3
)

// Decode reads one Pod manifest in YAML or JSON. Everything that is wrong with it, or that Drydock does not honour, comes
// back in one *InvalidError with paths of the manifest. The result has passed Validate.
func Decode(data []byte) (*drydockv1.PodSpec, error) {
	if err := oneDocument(data); err != nil {
		return nil, err
	}
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var pod corev1.Pod
	strict, err := kjson.UnmarshalStrict(text, &pod)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	d := &decoder{pod: &pod}
	for _, e := range strict {
		d.unknown(e)
	}
	if pod.APIVersion == "" {
		d.add("apiVersion", "missing", remedy("apiVersion"))
	}
	if pod.Kind == "" {
		d.add("kind", "missing", remedy("kind"))
	}
	d.report = append(d.report, findUnsupported(pod)...)
	spec := d.decode()
	for _, p := range validate(spec) {
		p.Field = manifestField(p.Field)
		// What has been refused needs no second complaint.
		if !slices.ContainsFunc(d.report, func(o Problem) bool { return below(o.Field, p.Field) }) {
			d.report = append(d.report, p)
		}
	}
	if err := d.err(pod.Name); err != nil {
		return nil, err
	}
	return spec, nil
}

// below says whether a field is another or a part of it.
func below(field, other string) bool {
	rest, ok := strings.CutPrefix(field, other)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func oneDocument(data []byte) error {
	documents := 0
	for part := range strings.SplitSeq("\n"+strings.ReplaceAll(string(data), "\r\n", "\n"), "\n---") {
		var content any
		if err := yaml.Unmarshal([]byte(part), &content); err != nil || content != nil {
			documents++
		}
	}
	if documents != 1 {
		return fmt.Errorf("manifest: %d documents; give one Pod in each file", documents)
	}
	return nil
}

// decoder takes over what is honoured.
type decoder struct {
	report
	pod *corev1.Pod
}

// unknown reports a field that no Pod has, or that is there twice.
func (d *decoder) unknown(err error) {
	reason, field, found := strings.Cut(err.Error(), ` "`)
	if !found {
		reason, field = err.Error(), "manifest"
	}
	d.add(strings.TrimSuffix(field, `"`), reason, "correct its spelling and place, or remove it")
}

func (d *decoder) decode() *drydockv1.PodSpec {
	pod, in := d.pod, d.pod.Spec
	grace := defaultGrace
	if s := in.TerminationGracePeriodSeconds; s != nil {
		grace = seconds(*s)
	}
	out := &drydockv1.PodSpec{
		Name: pod.Name, Hostname: in.Hostname, Labels: pod.Labels, StopGrace: durationpb.New(grace),
		RestartPolicy: d.restartPolicy(),
	}
	d.annotations(out)
	for i := range in.Containers {
		out.Containers = append(out.Containers, d.container(i))
	}
	for i, v := range in.Volumes {
		out.Volumes = append(out.Volumes, d.volume(v, fmt.Sprintf("spec.volumes[%d]", i)))
	}
	for _, a := range in.HostAliases {
		out.HostAliases = append(out.HostAliases, &drydockv1.HostAlias{Ip: a.IP, Hostnames: a.Hostnames})
	}
	if in.DNSConfig != nil {
		out.Nameservers = in.DNSConfig.Nameservers
	}
	return out
}

func (d *decoder) restartPolicy() drydockv1.RestartPolicy {
	switch p := d.pod.Spec.RestartPolicy; p {
	case corev1.RestartPolicyAlways, "":
		return drydockv1.RestartPolicy_RESTART_POLICY_ALWAYS
	case corev1.RestartPolicyOnFailure:
		return drydockv1.RestartPolicy_RESTART_POLICY_ON_FAILURE
	case corev1.RestartPolicyNever:
		return drydockv1.RestartPolicy_RESTART_POLICY_NEVER
	default:
		d.add("spec.restartPolicy", fmt.Sprintf("unknown: %s", p), "use Always, OnFailure or Never")
		return drydockv1.RestartPolicy_RESTART_POLICY_UNSPECIFIED
	}
}

func (d *decoder) annotations(out *drydockv1.PodSpec) {
	out.OnHostLost = drydockv1.OnHostLost_ON_HOST_LOST_RESTART
	for _, key := range sortedKeys(d.pod.Annotations) {
		value := d.pod.Annotations[key]
		field := "metadata.annotations." + key
		switch key {
		case AnnotationAddress:
			out.Addresses = split(value)
		case AnnotationOnHostLost:
			var ok bool
			if out.OnHostLost, ok = onHostLost(value); !ok {
				d.add(field, fmt.Sprintf("unknown: %q", value), "use restart or wait")
			}
		case AnnotationAllowPostcopy:
			out.AllowPostcopy = d.yes(field, value)
		case AnnotationAffinity:
			out.Affinity = value
		case AnnotationPortable:
			out.Portable = d.yes(field, value)
		case AnnotationSharedVolumes:
			for _, name := range split(value) {
				d.sharedVolume(field, name)
			}
		default:
			if strings.HasPrefix(key, "drydock/") {
				d.add(field, "not supported", "correct its spelling, or remove it")
				continue
			}
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[key] = value
		}
	}
}

func (d *decoder) yes(field, value string) bool {
	if value != "true" && value != "false" {
		d.add(field, fmt.Sprintf("unknown: %q", value), `use "true" or "false"`)
	}
	return value == "true"
}

func (d *decoder) sharedVolume(field, name string) {
	known := slices.ContainsFunc(d.pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == name && v.HostPath != nil
	})
	if !known {
		d.add(field, fmt.Sprintf("%s is no hostPath volume", name), "name volumes of spec.volumes that have a hostPath")
	}
}

func (d *decoder) volume(v corev1.Volume, field string) *drydockv1.Volume {
	out := &drydockv1.Volume{Name: v.Name}
	switch {
	case v.HostPath != nil && v.EmptyDir != nil:
		d.add(field, "has emptyDir and hostPath", "give it one of them")
	case v.HostPath != nil:
		if !slices.Contains(split(d.pod.Annotations[AnnotationSharedVolumes]), v.Name) {
			d.add(field+".hostPath", "a directory of one host does not move with the pod", fmt.Sprintf(
				"if it is the same on every host (NFS, a cluster file system), add the annotation %s: %s; else use emptyDir",
				AnnotationSharedVolumes, v.Name))
		}
		out.Kind = &drydockv1.Volume_Shared_{Shared: &drydockv1.Volume_Shared{Path: v.HostPath.Path}}
	case v.EmptyDir != nil:
		d.emptyDir(out, v.EmptyDir, field+".emptyDir")
	}
	return out
}

func (d *decoder) emptyDir(out *drydockv1.Volume, in *corev1.EmptyDirVolumeSource, field string) {
	switch in.Medium {
	case corev1.StorageMediumMemory:
		size := int64(0)
		if in.SizeLimit != nil {
			size = in.SizeLimit.Value()
		}
		out.Kind = &drydockv1.Volume_Memory_{Memory: &drydockv1.Volume_Memory{SizeBytes: size}}
		return
	case corev1.StorageMediumDefault:
		if in.SizeLimit != nil {
			d.add(field+".sizeLimit", "not supported: "+in.SizeLimit.String(), "remove it, or use medium Memory")
		}
	default:
		d.add(field+".medium", fmt.Sprintf("not supported: %s", in.Medium), "leave it out, or use Memory")
	}
	out.Kind = &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}}
}

func onHostLost(word string) (drydockv1.OnHostLost, bool) {
	switch word {
	case "restart":
		return drydockv1.OnHostLost_ON_HOST_LOST_RESTART, true
	case "wait":
		return drydockv1.OnHostLost_ON_HOST_LOST_WAIT, true
	default:
		return drydockv1.OnHostLost_ON_HOST_LOST_UNSPECIFIED, false
	}
}

// seconds does not overflow, so that a negative or absurd number is seen by validate.
func seconds(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Second)
	return time.Duration(max(-most, min(n, most))) * time.Second
}

func split(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
