package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// honoured are the fields whose values are taken over, or checked, by decode. A field below none of these and not in
// accepted is refused, so that one which Kubernetes adds later is too.
func honoured() []string {
	return []string{
		"metadata.name", "metadata.labels", "metadata.annotations",
		"spec.containers[].name", "spec.containers[].image", "spec.containers[].command", "spec.containers[].args",
		"spec.containers[].workingDir", "spec.containers[].env[].name", "spec.containers[].env[].value",
		"spec.containers[].resources.limits.cpu", "spec.containers[].resources.limits.memory",
		"spec.containers[].resources.requests.cpu", "spec.containers[].resources.requests.memory",
		"spec.containers[].volumeMounts[].name", "spec.containers[].volumeMounts[].mountPath",
		"spec.containers[].volumeMounts[].readOnly", "spec.containers[].volumeMounts[].subPath",
		"spec.containers[].securityContext.runAsUser", "spec.containers[].securityContext.runAsGroup",
		"spec.containers[].securityContext.runAsNonRoot", "spec.containers[].securityContext.capabilities",
		"spec.containers[].securityContext.readOnlyRootFilesystem",
		"spec.containers[].livenessProbe.exec", "spec.containers[].livenessProbe.tcpSocket.port",
		"spec.containers[].livenessProbe.httpGet.port", "spec.containers[].livenessProbe.httpGet.path",
		"spec.containers[].livenessProbe.initialDelaySeconds", "spec.containers[].livenessProbe.periodSeconds",
		"spec.containers[].livenessProbe.timeoutSeconds", "spec.containers[].livenessProbe.failureThreshold",
		"spec.containers[].ports[].containerPort", "spec.containers[].ports[].name", "spec.containers[].ports[].protocol",
		"spec.volumes[].name", "spec.volumes[].emptyDir.medium", "spec.volumes[].emptyDir.sizeLimit",
		"spec.volumes[].hostPath.path",
		"spec.restartPolicy", "spec.hostname", "spec.terminationGracePeriodSeconds",
		"spec.securityContext.runAsUser", "spec.securityContext.runAsGroup", "spec.securityContext.runAsNonRoot",
		"spec.securityContext.supplementalGroups",
		"spec.hostAliases", "spec.dnsConfig.nameservers",
	}
}

// accepted are values that ask for nothing beyond what Drydock does anyway, among them what the API server writes into
// every pod. "*" accepts any value; false, 0 and "" are always accepted.
func accepted() map[string][]string {
	return map[string][]string{
		"apiVersion": {"v1"}, "kind": {"Pod"},
		// Observations, not requests.
		"status": {"*"}, "metadata.uid": {"*"}, "metadata.resourceVersion": {"*"}, "metadata.generation": {"*"},
		"metadata.creationTimestamp": {"*"}, "metadata.managedFields": {"*"}, "metadata.selfLink": {"*"},
		"metadata.namespace":  {"default"},
		"spec.dnsPolicy":      {"ClusterFirst", "Default", "None"},
		"spec.schedulerName":  {"default-scheduler"},
		"spec.serviceAccount": {"default"}, "spec.serviceAccountName": {"default"},
		"spec.enableServiceLinks":                               {"true"},
		"spec.preemptionPolicy":                                 {"PreemptLowerPriority"},
		"spec.tolerations[].key":                                {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"},
		"spec.tolerations[].operator":                           {"Exists"},
		"spec.tolerations[].effect":                             {"NoExecute"},
		"spec.tolerations[].tolerationSeconds":                  {"300"},
		"spec.os.name":                                          {"linux"},
		"spec.securityContext.seccompProfile.type":              {"RuntimeDefault"},
		"spec.containers[].imagePullPolicy":                     {"IfNotPresent", "Never"},
		"spec.containers[].terminationMessagePath":              {"/dev/termination-log"},
		"spec.containers[].terminationMessagePolicy":            {"File"},
		"spec.containers[].securityContext.procMount":           {"Default"},
		"spec.containers[].securityContext.seccompProfile.type": {"RuntimeDefault"},
		"spec.containers[].livenessProbe.successThreshold":      {"1"},
		"spec.containers[].livenessProbe.httpGet.scheme":        {"HTTP"},
		"spec.containers[].volumeMounts[].mountPropagation":     {"None"},
		"spec.containers[].volumeMounts[].recursiveReadOnly":    {"Disabled"},
		"spec.volumes[].hostPath.type":                          {"Directory"},
	}
}

// remedies say what to do instead; the longest that begins a path holds.
func remedies() map[string]string {
	return map[string]string{
		"apiVersion":                                                 "write v1",
		"kind":                                                       "give a Pod; Drydock runs pods, not what makes them",
		"metadata.namespace":                                         "leave it out; a pool has one namespace",
		"metadata.generateName":                                      "give metadata.name",
		"spec.initContainers":                                        "do this in the image or in the container's command",
		"spec.ephemeralContainers":                                   "use drydock pod exec",
		"spec.nodeName":                                              "name the host with drydock pod run --host",
		"spec.nodeSelector":                                          "name the host with drydock pod run --host",
		"spec.affinity":                                              "name the host that it belongs to with the annotation " + AnnotationAffinity + "; pods that must not share a host are named in their pool's pods.apart",
		"spec.hostNetwork":                                           "remove it; a pod has an address of its own, which moves with it",
		"spec.hostPID":                                               "remove it; a pod that sees its host's processes cannot move",
		"spec.hostIPC":                                               "remove it; a pod that shares its host's memory cannot move",
		"spec.shareProcessNamespace":                                 "remove it; put the processes into one container",
		"spec.dnsPolicy":                                             "remove it, or use None with dnsConfig.nameservers",
		"spec.imagePullSecrets":                                      "import the image with drydock image import",
		"spec.securityContext.fsGroup":                               "use supplementalGroups, and give the volume to that group",
		"spec.automountServiceAccountToken":                          "remove it; there is no Kubernetes API to talk to",
		"spec.serviceAccountName":                                    "remove it; there is no Kubernetes API to talk to",
		"spec.volumes[]":                                             "use emptyDir, or hostPath with the annotation " + AnnotationSharedVolumes,
		"spec.volumes[].hostPath.type":                               "remove it; the directory must be there on every host",
		"spec.containers[].env[].valueFrom":                          "write the value itself",
		"spec.containers[].envFrom":                                  "write the variables themselves in env",
		"spec.containers[].imagePullPolicy":                          "use IfNotPresent; an image is resolved to its digest once, when the pod is made",
		"spec.containers[].readinessProbe":                           "use livenessProbe",
		"spec.containers[].startupProbe":                             "use livenessProbe with initialDelaySeconds",
		"spec.containers[].resizePolicy":                             "remove it; limits hold for the pod's life",
		"spec.containers[].lifecycle":                                "let the program handle its stop signal",
		"spec.containers[].stdin":                                    "use drydock pod exec",
		"spec.containers[].tty":                                      "use drydock pod exec",
		"spec.containers[].volumeDevices":                            "mount a volume; devices cannot move",
		"spec.containers[].resources.limits":                         "limit cpu and memory only",
		"spec.containers[].resources.requests":                       "request cpu and memory only",
		"spec.containers[].ports[].hostPort":                         "remove it; clients reach the pod at its own address",
		"spec.containers[].ports[].hostIP":                           "remove it; clients reach the pod at its own address",
		"spec.containers[].livenessProbe":                            "use exec, tcpSocket or a plain httpGet of the pod itself",
		"spec.containers[].securityContext.privileged":               "remove it; a pod never gets the host's rights",
		"spec.containers[].securityContext.allowPrivilegeEscalation": "set it to false; no_new_privs is always on",
		"spec.containers[].securityContext.seccompProfile":           "remove it; every pod runs under Drydock's profile",
		"spec.securityContext.seccompProfile":                        "remove it; every pod runs under Drydock's profile",
	}
}

func remedy(pattern string) string {
	best := ""
	all := remedies()
	for prefix := range all {
		if strings.HasPrefix(pattern, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	if best == "" {
		return "remove it"
	}
	return all[best]
}

// unsupported walks a decoded object and reports every field that is set, and neither honoured nor accepted, at the
// highest level at which all of it is so.
type unsupported struct {
	honoured map[string]bool
	accepted map[string][]string
	// inner are the paths above those.
	inner    map[string]bool
	problems report
}

func findUnsupported(object any) report {
	u := &unsupported{honoured: map[string]bool{}, accepted: accepted(), inner: map[string]bool{"": true}}
	for _, path := range honoured() {
		u.honoured[path] = true
		u.addAbove(path)
	}
	for path := range u.accepted {
		u.addAbove(path)
	}
	u.walk(reflect.ValueOf(object), "", "")
	return u.problems
}

func (u *unsupported) addAbove(path string) {
	for {
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return
		}
		path = path[:i]
		u.inner[path] = true
	}
}

// walk visits a value at path; pattern is the path without its indices.
func (u *unsupported) walk(v reflect.Value, path, pattern string) {
	set := false
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
		set = v.Kind() == reflect.Struct
	}
	if u.honoured[pattern] || (v.IsZero() && !set) {
		return
	}
	if values, ok := u.accepted[pattern]; ok && (values[0] == "*" || slices.Contains(values, fmt.Sprint(v.Interface()))) {
		return
	}
	if !u.inner[pattern] || !u.descend(v, path, pattern) {
		u.problems.add(path, "not supported"+shown(v), remedy(pattern))
	}
}

// descend walks what is inside of a value, and says whether it can have anything inside.
func (u *unsupported) descend(v reflect.Value, path, pattern string) bool {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if name == "" || options == "inline" {
				u.descend(v.Field(i), path, pattern)
				continue
			}
			u.walk(v.Field(i), join(path, name), join(pattern, name))
		}
	case reflect.Slice:
		for i := range v.Len() {
			u.descend(v.Index(i), fmt.Sprintf("%s[%d]", path, i), pattern+"[]")
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			u.walk(v.MapIndex(key), join(path, key.String()), join(pattern, key.String()))
		}
	default:
		return false
	}
	return true
}

// shown is a simple value, for a message.
func shown(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map:
		if q, ok := v.Interface().(resource.Quantity); ok {
			return ": " + q.String()
		}
		return ""
	default:
		return fmt.Sprintf(": %v", v.Interface())
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
