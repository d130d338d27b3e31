package manifest

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
)

const (
	maxName     = 63
	minMemory   = 4 << 20 // below it not even a shell starts
	minCPU      = 10      // a thousandth of CPU time; the kernel's smallest quota
	maxID       = math.MaxInt32
	nameRemedy  = "use at most 63 lower-case letters, digits and -, with a letter or digit at both ends"
	namePattern = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
)

// Validate checks a PodSpec as a whole. Everything that is wrong comes back in one *InvalidError, with the fields' names
// in PodSpec. It does not look at any host: whether images, addresses and shared paths are there is not its matter.
func Validate(spec *drydockv1.PodSpec) error {
	return validate(spec).err(spec.GetName())
}

// validator collects what is wrong with one pod.
type validator struct {
	report
	spec *drydockv1.PodSpec
	name *regexp.Regexp
}

func validate(spec *drydockv1.PodSpec) report {
	v := &validator{spec: spec, name: regexp.MustCompile(namePattern)}
	v.label("name", spec.GetName())
	if spec.GetHostname() != "" {
		v.label("hostname", spec.GetHostname())
	}
	if spec.GetAffinity() != "" {
		v.label("affinity", spec.GetAffinity())
	}
	v.network()
	if spec.GetStopGrace().AsDuration() < 0 {
		v.add("stop_grace", "is negative", "give 0 or more seconds")
	}
	v.volumes()
	if len(spec.GetContainers()) == 0 {
		v.add("containers", "none given", "give at least one")
	}
	var names []string
	for i, c := range spec.GetContainers() {
		field := fmt.Sprintf("containers[%d]", i)
		v.label(field+".name", c.GetName())
		v.unique(&names, field+".name", c.GetName())
		v.container(field, c)
	}
	v.subPaths()
	v.memoryMounts()
	return v.report
}

func (v *validator) label(field, name string) {
	switch {
	case name == "":
		v.add(field, "is empty", nameRemedy)
	case len(name) > maxName || !v.name.MatchString(name):
		v.add(field, fmt.Sprintf("%q is not a DNS label", name), nameRemedy)
	}
}

func (v *validator) unique(seen *[]string, field, name string) {
	if name != "" && slices.Contains(*seen, name) {
		v.add(field, fmt.Sprintf("%q is there twice", name), "give each its own")
	}
	*seen = append(*seen, name)
}

func (v *validator) network() {
	var families []bool
	for i, text := range v.spec.GetAddresses() {
		field := fmt.Sprintf("addresses[%d]", i)
		addr, ok := address(text)
		if !ok || !addr.IsGlobalUnicast() {
			v.add(field, fmt.Sprintf("%q is not a host's address", text), "write it as 10.77.1.5 or 10.77.1.5/16")
			continue
		}
		if slices.Contains(families, addr.Is4()) {
			v.add(field, "is the second of its kind", "give at most one IPv4 and one IPv6 address")
		}
		families = append(families, addr.Is4())
	}
	if g := v.spec.GetGateway(); g != "" {
		v.ip("gateway", g)
	}
	if m := v.spec.GetMac(); m != "" {
		if hw, err := net.ParseMAC(m); err != nil || len(hw) != 6 || hw[0]&1 != 0 {
			v.add("mac", fmt.Sprintf("%q is not a host's MAC address", m), "write it as 02:00:0a:4d:01:05")
		}
	}
	for i, n := range v.spec.GetNameservers() {
		v.ip(fmt.Sprintf("nameservers[%d]", i), n)
	}
	for i, a := range v.spec.GetHostAliases() {
		field := fmt.Sprintf("host_aliases[%d]", i)
		v.ip(field+".ip", a.GetIp())
		if len(a.GetHostnames()) == 0 {
			v.add(field+".hostnames", "none given", "name at least one")
		}
		for j, name := range a.GetHostnames() {
			if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '#' || r > '~' }) {
				v.add(fmt.Sprintf("%s.hostnames[%d]", field, j), fmt.Sprintf("%q is not a host name", name), "correct it")
			}
		}
	}
}

// address parses an address with or without prefix length.
func address(text string) (netip.Addr, bool) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Addr(), true
	}
	addr, err := netip.ParseAddr(text)
	return addr, err == nil && addr.Zone() == ""
}

func (v *validator) ip(field, text string) {
	if addr, err := netip.ParseAddr(text); err != nil || addr.IsUnspecified() {
		v.add(field, fmt.Sprintf("%q is not an IP address", text), "write it as 10.77.0.1 or fd00::1")
	}
}

func (v *validator) container(field string, c *drydockv1.Container) {
	if _, err := reference.ParseNormalizedNamed(c.GetImage()); err != nil {
		v.add(field+".image", fmt.Sprintf("%q is not an image reference", c.GetImage()), "write it as NAME:TAG or NAME@sha256:DIGEST")
	}
	if d := c.GetImageDigest(); d != "" && digest.Digest(d).Validate() != nil {
		v.add(field+".image_digest", fmt.Sprintf("%q is not a digest", d), "write it as sha256: and 64 hexadecimal digits")
	}
	if dir := c.GetWorkingDir(); dir != "" && !path.IsAbs(dir) {
		v.add(field+".working_dir", fmt.Sprintf("%q is not absolute", dir), "begin it with /")
	}
	v.env(field, c)
	v.resources(field+".resources", c.GetResources())
	v.security(field+".security", c.GetSecurity())
	v.probe(field+".probe", c.GetProbe())
	v.mounts(field, c.GetMounts())
}

func (v *validator) env(field string, c *drydockv1.Container) {
	var names []string
	for i, e := range c.GetEnv() {
		at := fmt.Sprintf("%s.env[%d]", field, i)
		if e.GetName() == "" || strings.ContainsAny(e.GetName(), "=\x00") {
			v.add(at+".name", fmt.Sprintf("%q is not a variable's name", e.GetName()), "give one without =")
		}
		v.unique(&names, at+".name", e.GetName())
		v.noNUL(at+".value", e.GetValue())
	}
	for i, word := range c.GetCommand() {
		v.noNUL(fmt.Sprintf("%s.command[%d]", field, i), word)
	}
	for i, word := range c.GetArgs() {
		v.noNUL(fmt.Sprintf("%s.args[%d]", field, i), word)
	}
}

func (v *validator) noNUL(field, text string) {
	if strings.ContainsRune(text, 0) {
		v.add(field, "holds a zero byte", "remove it")
	}
}

func (v *validator) resources(field string, r *drydockv1.Resources) {
	for _, q := range []struct {
		name                  string
		limit, request, least int64
		remedy                string
	}{
		{"cpu", r.GetCpuLimitMillis(), r.GetCpuRequestMillis(), minCPU, "give at least 10m (0.01 of a CPU), or 0 for no limit"},
		{"memory", r.GetMemoryLimitBytes(), r.GetMemoryRequestBytes(), minMemory, "give at least 4Mi, or 0 for no limit"},
	} {
		limit, request := field+"."+q.name+"_limit", field+"."+q.name+"_request"
		if q.limit < 0 || (q.limit > 0 && q.limit < q.least) {
			v.add(limit, fmt.Sprintf("%d is too little", q.limit), q.remedy)
		}
		if q.request < 0 {
			v.add(request, "is negative", "give 0 or more")
		}
		if q.limit > 0 && q.request > q.limit {
			v.add(request, "is more than the limit", "lower it, or raise the limit")
		}
	}
}

func (v *validator) security(field string, s *drydockv1.Security) {
	v.id(field+".run_as_user", s.GetRunAsUser())
	v.id(field+".run_as_group", s.GetRunAsGroup())
	for i, g := range s.GetSupplementaryGroups() {
		v.id(fmt.Sprintf("%s.supplementary_groups[%d]", field, i), g)
	}
	for i, name := range s.GetAddCapabilities() {
		if !slices.Contains(addable(), strings.TrimPrefix(name, "CAP_")) {
			v.add(fmt.Sprintf("%s.add_capabilities[%d]", field, i), name+" reaches beyond the pod, or is unknown",
				"remove it; these can be added: "+strings.Join(addable(), ", "))
		}
	}
}

func (v *validator) id(field string, n int64) {
	if n < 0 || n > maxID {
		v.add(field, fmt.Sprintf("%d is not an id", n), fmt.Sprintf("give 0 to %d", maxID))
	}
}

// addable are the capabilities that act on the pod's own processes, files and network only.
func addable() []string {
	return []string{
		"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "NET_ADMIN",
		"NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_NICE",
	}
}

func (v *validator) probe(field string, p *drydockv1.Probe) {
	if p == nil {
		return
	}
	switch a := p.GetAction().(type) {
	case *drydockv1.Probe_Exec_:
		if len(a.Exec.GetCommand()) == 0 {
			v.add(field+".exec.command", "is empty", "name a program of the container")
		}
	case *drydockv1.Probe_Tcp:
		v.port(field+".tcp.port", a.Tcp.GetPort())
	case *drydockv1.Probe_Http:
		v.port(field+".http.port", a.Http.GetPort())
		if !strings.HasPrefix(a.Http.GetPath(), "/") {
			v.add(field+".http.path", fmt.Sprintf("%q is not absolute", a.Http.GetPath()), "begin it with /")
		}
	default:
		v.add(field, "asks for nothing", "give it a command, a TCP port or an HTTP path")
	}
	for _, d := range []struct {
		name  string
		value *durationpb.Duration
	}{{"initial_delay", p.GetInitialDelay()}, {"period", p.GetPeriod()}, {"timeout", p.GetTimeout()}} {
		if d.value.AsDuration() < 0 {
			v.add(field+"."+d.name, "is negative", "give 0 or more seconds")
		}
	}
	if p.GetFailureThreshold() < 0 {
		v.add(field+".failure_threshold", "is negative", "give 1 or more")
	}
}

func (v *validator) port(field string, port uint32) {
	if port < 1 || port > 65535 {
		v.add(field, fmt.Sprintf("%d is not a port", port), "give 1 to 65535")
	}
}
