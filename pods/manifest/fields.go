package manifest

import (
	"regexp"
	"strings"
)

// manifestField is a field of a PodSpec by its name in a manifest.
func manifestField(field string) string {
	switch {
	case field == "name":
		return "metadata.name"
	case strings.HasPrefix(field, "addresses["):
		return "metadata.annotations." + AnnotationAddress
	case field == "affinity":
		return "metadata.annotations." + AnnotationAffinity
	}
	r := strings.NewReplacer(
		"stop_grace", "terminationGracePeriodSeconds", "host_aliases", "hostAliases", "nameservers", "dnsConfig.nameservers",
		".mounts[", ".volumeMounts[", "].volume", "].name", "].path", "].mountPath", ".sub_path", ".subPath",
		".shared.path", ".hostPath.path", ".memory.size_bytes", ".emptyDir.sizeLimit",
		".cpu_limit", ".limits.cpu", ".memory_limit", ".limits.memory",
		".cpu_request", ".requests.cpu", ".memory_request", ".requests.memory",
		".security.", ".securityContext.", "run_as_user", "runAsUser", "run_as_group", "runAsGroup",
		"supplementary_groups", "supplementalGroups", "add_capabilities", "capabilities.add",
		".probe", ".livenessProbe", ".tcp.", ".tcpSocket.", ".http.", ".httpGet.",
		"initial_delay", "initialDelaySeconds", ".period", ".periodSeconds", ".timeout", ".timeoutSeconds",
		"failure_threshold", "failureThreshold", "working_dir", "workingDir",
	)
	return "spec." + r.Replace(field)
}

// flagField is a field of a PodSpec that FromFlags made by the flag that it came from.
func flagField(field string) string {
	index := regexp.MustCompile(`\[\d+\]`)
	pattern := index.ReplaceAllString(field, "")
	for _, f := range []struct{ prefix, flag string }{
		{"name", "NAME"}, {"hostname", "--hostname"}, {"addresses", "--ip"}, {"labels", "--label"}, {"affinity", "--affinity"},
		{"containers.name", "NAME"}, {"containers.image", "--image"}, {"containers.env", "--env"},
		{"containers.command", "COMMAND"}, {"containers.args", "COMMAND"},
		{"containers.resources.cpu", "--cpus"}, {"containers.resources.memory", "--memory"},
		{"containers.security.run", "--user"}, {"containers.probe.tcp", "--health-tcp"},
		{"containers.probe.http", "--health-http"}, {"containers.probe.exec", "--health-exec"},
		{"containers.mounts", "--volume"}, {"volumes", "--volume"},
	} {
		if strings.HasPrefix(pattern, f.prefix) {
			return f.flag
		}
	}
	return field
}
