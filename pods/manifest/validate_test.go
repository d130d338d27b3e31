package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
)

func valid() *drydockv1.PodSpec {
	return &drydockv1.PodSpec{
		Name: "shop", Addresses: []string{"10.77.1.5/16", "fd00::5/64"}, Gateway: "10.77.0.1", Mac: "02:00:0a:4d:01:05",
		Containers: []*drydockv1.Container{{
			Name: "main", Image: "shop:1", Mounts: []*drydockv1.VolumeMount{{Volume: "data", Path: "/data"}},
		}},
		Volumes: []*drydockv1.Volume{
			{Name: "data", Kind: &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}}},
			{Name: "nfs", Kind: &drydockv1.Volume_Shared_{Shared: &drydockv1.Volume_Shared{Path: "/srv/nfs"}}},
			{Name: "fast", Kind: &drydockv1.Volume_Memory_{Memory: &drydockv1.Volume_Memory{SizeBytes: 1 << 20}}},
		},
	}
}

func mount(c *drydockv1.Container, volume, path, sub string, readOnly bool) {
	c.Mounts = append(c.Mounts, &drydockv1.VolumeMount{Volume: volume, Path: path, SubPath: sub, ReadOnly: readOnly})
}

func TestValidateNamesEveryFieldThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*drydockv1.PodSpec, *drydockv1.Container)
		want   []string
	}{
		"nothing": {func(*drydockv1.PodSpec, *drydockv1.Container) {}, nil},
		"names": {func(p *drydockv1.PodSpec, c *drydockv1.Container) {
			p.Name, p.Hostname, c.Name = "Shop", "-a", strings.Repeat("a", 64)
		}, []string{"name", "hostname", "containers[0].name"}},
		"the longest name": {func(p *drydockv1.PodSpec, _ *drydockv1.Container) { p.Name = strings.Repeat("a", 63) }, nil},
		"two of a name": {func(p *drydockv1.PodSpec, c *drydockv1.Container) {
			p.Containers = append(p.Containers, proto.CloneOf(c))
			p.Volumes = append(p.Volumes, p.Volumes[0])
		}, []string{"volumes[3].name", "containers[1].name"}},
		"no containers": {func(p *drydockv1.PodSpec, _ *drydockv1.Container) { p.Containers = nil }, []string{"containers"}},
		"addresses": {func(p *drydockv1.PodSpec, _ *drydockv1.Container) {
			p.Addresses = []string{"10.0.0.1", "10.0.0.2", "x", "127.0.0.1", "0.0.0.0/0", "fe80::1%eth0"}
			p.Gateway, p.Mac, p.Nameservers = "0.0.0.0", "01:00:5e:00:00:01", []string{"dns"}
		}, []string{
			"addresses[1]", "addresses[2]", "addresses[3]", "addresses[4]", "addresses[5]", "gateway", "mac", "nameservers[0]",
		}},
		"host aliases": {func(p *drydockv1.PodSpec, _ *drydockv1.Container) {
			p.HostAliases = []*drydockv1.HostAlias{{Ip: "x"}, {Ip: "10.0.0.1", Hostnames: []string{"a\nb"}}}
		}, []string{"host_aliases[0].ip", "host_aliases[0].hostnames", "host_aliases[1].hostnames[0]"}},
		"images": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) { c.Image, c.ImageDigest = "Shop:1", "sha256:12" },
			[]string{"containers[0].image", "containers[0].image_digest"}},
		"words": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			c.Command, c.Args, c.WorkingDir = []string{"a\x00"}, []string{"", "\x00"}, "srv"
			c.Env = []*drydockv1.EnvVar{{Name: "A=B"}, {Name: "C", Value: "\x00"}, {Name: "C"}, {}}
		}, []string{
			"containers[0].working_dir", "containers[0].env[0].name", "containers[0].env[1].value", "containers[0].env[2].name",
			"containers[0].env[3].name", "containers[0].command[0]", "containers[0].args[1]",
		}},
		"resources": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			c.Resources = &drydockv1.Resources{
				CpuLimitMillis: 5, CpuRequestMillis: 6, MemoryLimitBytes: -1, MemoryRequestBytes: -1,
			}
		}, []string{
			"containers[0].resources.cpu_limit", "containers[0].resources.cpu_request", "containers[0].resources.memory_limit",
			"containers[0].resources.memory_request",
		}},
		"rights": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			uid := int64(-1)
			c.Security = &drydockv1.Security{
				RunAsUser: &uid, SupplementaryGroups: []int64{1 << 40},
				AddCapabilities: []string{"NET_RAW", "CAP_SYS_ADMIN", "SYS_MODULE", "ALL", "CAP_CHOWN"},
			}
		}, []string{
			"containers[0].security.run_as_user", "containers[0].security.supplementary_groups[0]",
			"containers[0].security.add_capabilities[1]", "containers[0].security.add_capabilities[2]",
			"containers[0].security.add_capabilities[3]",
		}},
		"a probe": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			c.Probe = &drydockv1.Probe{
				Action:           &drydockv1.Probe_Http{Http: &drydockv1.Probe_HTTP{Port: 70000, Path: "x"}},
				FailureThreshold: -1, Period: durationpb.New(-1),
			}
		}, []string{
			"containers[0].probe.http.port", "containers[0].probe.http.path", "containers[0].probe.period",
			"containers[0].probe.failure_threshold",
		}},
		"volumes": {func(p *drydockv1.PodSpec, _ *drydockv1.Container) {
			p.Volumes[1].GetShared().Path = "/srv/../etc"
			p.Volumes[2].GetMemory().SizeBytes = 0
			p.Volumes = append(p.Volumes, &drydockv1.Volume{Name: "none"})
		}, []string{"volumes[1].shared.path", "volumes[2].memory.size_bytes", "volumes[3]"}},
		"mounts": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			for _, path := range []string{"/data/sub", "/data/", "data", "/x/../y", "/proc/sys", "/", "/etc", "/etc/hosts"} {
				mount(c, "data", path, "", false)
			}
			mount(c, "lost", "/lost", "", false)
		}, []string{
			"containers[0].mounts[1].path", "containers[0].mounts[2].path", "containers[0].mounts[2].path",
			"containers[0].mounts[3].path", "containers[0].mounts[4].path", "containers[0].mounts[5].path",
			"containers[0].mounts[6].path", "containers[0].mounts[6].path", "containers[0].mounts[6].path",
			"containers[0].mounts[6].path", "containers[0].mounts[6].path", "containers[0].mounts[7].path",
			"containers[0].mounts[7].path", "containers[0].mounts[8].path", "containers[0].mounts[8].path",
			"containers[0].mounts[8].path", "containers[0].mounts[9].volume", "containers[0].mounts[9].path",
		}},
		"mounts side by side": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			mount(c, "data", "/data2", "", false)
			mount(c, "nfs", "/etc/app", "", false)
		}, nil},
		"sub paths that leave": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			c.Mounts = nil
			mount(c, "data", "/a", "/a", false)
			mount(c, "data", "/b", "a/../..", false)
			mount(c, "data", "/c", ".", false)
			mount(c, "nfs", "/d", "d", false)
			mount(c, "fast", "/e", "e", false)
		}, []string{
			"containers[0].mounts[0].sub_path", "containers[0].mounts[1].sub_path", "containers[0].mounts[2].sub_path",
			"containers[0].mounts[3].sub_path", "containers[0].mounts[4].sub_path",
		}},
		"a sub path below what is writable": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			mount(c, "data", "/sub", "a/b", false)
		}, []string{"containers[0].mounts[1].sub_path"}},
		"sub paths that nobody can replace": {func(_ *drydockv1.PodSpec, c *drydockv1.Container) {
			c.Mounts[0].ReadOnly = true
			mount(c, "data", "/sub", "a/b", false)
			mount(c, "data", "/other", "a/bc", false)
			mount(c, "data", "/again", "a/b/", false)
		}, nil},
		"memory in two containers": {func(p *drydockv1.PodSpec, c *drydockv1.Container) {
			mount(c, "fast", "/fast", "", false)
			second := &drydockv1.Container{Name: "second", Image: "shop:1"}
			mount(second, "fast", "/fast", "", false)
			p.Containers = append(p.Containers, second)
		}, []string{"containers[1].mounts[0].volume"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := valid()
			c.change(spec, spec.Containers[0])
			err := Validate(spec)
			if diff := cmp.Diff(c.want, fields(t, err)); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
			}
		})
	}
}

func TestOneProblemIsOneLine(t *testing.T) {
	spec := valid()
	spec.Hostname = "A"
	want := `pod "shop": hostname: "A" is not a DNS label; ` + nameRemedy
	if got := Validate(spec).Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
