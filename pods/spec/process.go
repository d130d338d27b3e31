package spec

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	drydockv1 "drydock/api/drydock/v1"
)

// DefaultCapabilities are what a container has unless its security settings say otherwise: enough for images that
// start as root, own their files, and drop to a user of theirs (PostgreSQL, Redis, nginx). Of Docker's fourteen these
// are left out: MKNOD (devices), NET_RAW (forged packets), SETFCAP and SETPCAP (files and children with more rights,
// without effect under no_new_privs), SYS_CHROOT, and AUDIT_WRITE (the host's audit log).
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID",
		"CAP_SETUID",
	}
}

// capabilities applies drops before additions, so that dropping ALL leaves what is added. Names come with or
// without CAP_.
func capabilities(sec *drydockv1.Security) []string {
	caps := DefaultCapabilities()
	for _, name := range sec.GetDropCapabilities() {
		if name == "ALL" || name == "CAP_ALL" {
			caps = []string{}
		}
		caps = slices.DeleteFunc(caps, func(c string) bool { return c == capability(name) })
	}
	for _, name := range sec.GetAddCapabilities() {
		caps = append(caps, capability(name))
	}
	slices.Sort(caps)
	return slices.Compact(caps)
}

func capability(name string) string {
	return "CAP_" + strings.TrimPrefix(name, "CAP_")
}

// arguments follow Kubernetes: command replaces the image's entry point and its arguments, args replace the arguments.
func arguments(c *drydockv1.Container, image v1.ImageConfig) ([]string, error) {
	entry, args := image.Entrypoint, image.Cmd
	if len(c.GetCommand()) > 0 {
		entry, args = c.GetCommand(), nil
	}
	if len(c.GetArgs()) > 0 {
		args = c.GetArgs()
	}
	all := slices.Concat(entry, args)
	if len(all) == 0 {
		return nil, fmt.Errorf("image %s names no program to run; give the container a command", c.GetImage())
	}
	return all, nil
}

func workingDir(c *drydockv1.Container, image v1.ImageConfig) string {
	for _, dir := range []string{c.GetWorkingDir(), image.WorkingDir} {
		if dir != "" {
			return dir
		}
	}
	return "/"
}

// tunables are glibc's variable. Restartable sequences, of which it registers more on newer kernels than older ones take, are what
// a portable program does without.
const (
	tunables    = "GLIBC_TUNABLES"
	withoutRseq = "glibc.pthread.rseq=0"
)

// environment: the default path, the image's variables, HOSTNAME, the container's. The last of a name holds. A portable pod's
// programs are told so beside what they are told anyway.
func environment(p *drydockv1.PodSpec, c *drydockv1.Container, image v1.ImageConfig) []oci.SpecOpts {
	all := slices.Concat([]string{defaultPath}, image.Env, []string{"HOSTNAME=" + hostname(p)})
	for _, e := range c.GetEnv() {
		all = append(all, e.GetName()+"="+e.GetValue())
	}
	if p.GetPortable() {
		all = append(all, portable(all))
	}
	var opts []oci.SpecOpts
	for _, variable := range all { // one at a time, since WithEnv keeps both of two in one list
		opts = append(opts, oci.WithEnv([]string{variable}))
	}
	return opts
}

// portable is the variable that keeps glibc to what every kernel has, added to what the variables say of it already: the last
// word on a tunable holds.
func portable(variables []string) string {
	said := ""
	for _, variable := range variables {
		if value, found := strings.CutPrefix(variable, tunables+"="); found {
			said = value
		}
	}
	return tunables + "=" + strings.TrimPrefix(said+":"+withoutRseq, ":")
}

// user is the container's own setting, or else the image's. As in Kubernetes, a user given without a group has the
// group that the image's passwd gives it, or 0.
func user(sec *drydockv1.Security, image string) []oci.SpecOpts {
	who := image
	if sec != nil && sec.RunAsUser != nil {
		who = strconv.FormatInt(sec.GetRunAsUser(), 10)
	}
	if who == "" {
		who = "0"
	}
	name, _, _ := strings.Cut(who, ":")
	opts := []oci.SpecOpts{oci.WithUser(who), oci.WithAdditionalGIDs(name)}
	if sec != nil && sec.RunAsGroup != nil {
		opts = append(opts, withGroup(uint32(sec.GetRunAsGroup())))
	}
	var groups []string
	for _, g := range sec.GetSupplementaryGroups() {
		groups = append(groups, strconv.FormatInt(g, 10))
	}
	if len(groups) > 0 {
		opts = append(opts, oci.WithAppendAdditionalGroups(groups...))
	}
	return opts
}

// withGroup sets the primary group, which containerd lists among the additional ones too.
func withGroup(gid uint32) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		u := &s.Process.User
		rest := slices.DeleteFunc(u.AdditionalGids, func(g uint32) bool { return g == u.GID || g == gid })
		u.GID, u.AdditionalGids = gid, append([]uint32{gid}, rest...)
		return nil
	}
}

// rlimits can be granted by a host's agent without CAP_SYS_RESOURCE where its own limits are systemd's defaults or above.
// A core dump would write the pod's memory to a disk of the host: at 1 the kernel refuses both a core file, which
// would need a page, and a handler behind a pipe, which it would start at 0 (core(5)).
func rlimits() []specs.POSIXRlimit {
	return []specs.POSIXRlimit{
		{Type: "RLIMIT_CORE", Soft: 1, Hard: 1},
		{Type: "RLIMIT_NOFILE", Soft: 16384, Hard: 16384},
	}
}

// oomScore makes the kernel end a pod's processes before containerd, the agent and CRIU. It is positive because lowering
// one's score takes CAP_SYS_RESOURCE, also in a restore.
func oomScore() *int {
	score := 500
	return &score
}
