package manifest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
)

func TestFlagsMakeTheSamePodAsAManifest(t *testing.T) {
	uid, gid := int64(999), int64(1000)
	got, err := FromFlags(Flags{
		Name: "shop", Image: "shop:1", Env: []string{"A=b=c"}, CPUs: "0.5", Memory: "256MiB", User: "999:1000",
		Volumes: []string{"data:/data", "shared=/srv/x:/x:ro", "shared=/srv/x:/y", "shared=/srv/z:/z"}, IP: "10.77.1.5",
		Restart: "never", OnHostLost: "wait", AllowPostcopy: true, Portable: true, HealthHTTP: "8080/healthz", Labels: []string{"app=shop"},
		Hostname: "till", Args: []string{"/shop", "-v"},
	})
	if err != nil {
		t.Fatal(err)
	}
	shared := func(path string) *drydockv1.Volume_Shared_ {
		return &drydockv1.Volume_Shared_{Shared: &drydockv1.Volume_Shared{Path: path}}
	}
	want := &drydockv1.PodSpec{
		Name: "shop", Hostname: "till", Addresses: []string{"10.77.1.5"}, Labels: map[string]string{"app": "shop"},
		RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER, OnHostLost: drydockv1.OnHostLost_ON_HOST_LOST_WAIT,
		AllowPostcopy: true, Portable: true, StopGrace: &durationpb.Duration{Seconds: 30},
		Containers: []*drydockv1.Container{{
			Name: "shop", Image: "shop:1", Args: []string{"/shop", "-v"}, Env: []*drydockv1.EnvVar{{Name: "A", Value: "b=c"}},
			Resources: &drydockv1.Resources{
				CpuLimitMillis: 500, CpuRequestMillis: 500, MemoryLimitBytes: 256 << 20, MemoryRequestBytes: 256 << 20,
			},
			Security: &drydockv1.Security{RunAsUser: &uid, RunAsGroup: &gid},
			Mounts: []*drydockv1.VolumeMount{
				{Volume: "data", Path: "/data"}, {Volume: "shared-1", Path: "/x", ReadOnly: true},
				{Volume: "shared-1", Path: "/y"}, {Volume: "shared-2", Path: "/z"},
			},
			Probe: &drydockv1.Probe{
				Action: &drydockv1.Probe_Http{Http: &drydockv1.Probe_HTTP{Port: 8080, Path: "/healthz"}},
				Period: &durationpb.Duration{Seconds: 10}, Timeout: &durationpb.Duration{Seconds: 1}, FailureThreshold: 3,
			},
		}},
		Volumes: []*drydockv1.Volume{
			{Name: "data", Kind: &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}}},
			{Name: "shared-1", Kind: shared("/srv/x")}, {Name: "shared-2", Kind: shared("/srv/z")},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWrongFlagsAreNamedAllAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		flags Flags
		want  []string
	}{
		"nothing wrong": {Flags{Name: "a", Image: "b"}, nil},
		"no name":       {Flags{Image: "b"}, []string{"NAME"}},
		"no image":      {Flags{Name: "a"}, []string{"--image"}},
		"words that are none": {
			Flags{Name: "a", Image: "b", Restart: "x", OnHostLost: "x", CPUs: "x", Memory: "x", User: "redis", HealthTCP: "x"},
			[]string{"--restart", "--on-host-lost", "--cpus", "--memory", "--user", "--health-tcp"},
		},
		"pairs that are none": {
			Flags{Name: "a", Image: "b", Env: []string{"A", "=x"}, Labels: []string{"x"}}, []string{"--label", "--env", "--env"},
		},
		"volumes": {
			Flags{Name: "a", Image: "b", Volumes: []string{"data", "data:/a:rw", "D:/d", "shared=x:/x", "d:rel"}},
			[]string{"--volume", "--volume", "--volume", "--volume", "--volume"},
		},
		"a service without its version": {Flags{Name: "a", Image: "b", Service: "shop"}, []string{"--service, --version"}},
		"two probes":                    {Flags{Name: "a", Image: "b", HealthTCP: "1", HealthExec: "x"}, []string{"--health-tcp, --health-exec"}},
		"a port of 0":                   {Flags{Name: "a", Image: "b", HealthTCP: "0"}, []string{"--health-tcp"}},
		"a port too high":               {Flags{Name: "a", Image: "b", HealthHTTP: "65536/x"}, []string{"--health-http"}},
		"shell in a probe":              {Flags{Name: "a", Image: "b", HealthExec: "a && b"}, []string{"--health-exec"}},
		"an empty probe":                {Flags{Name: "a", Image: "b", HealthExec: " "}, []string{"--health-exec"}},
		"sizes that do not":             {Flags{Name: "a", Image: "b", CPUs: "-1", Memory: "1KiB"}, []string{"--cpus", "--memory"}},
		"an address":                    {Flags{Name: "a", Image: "b", IP: "10.0.0.256"}, []string{"--ip"}},
		"a host name":                   {Flags{Name: "a", Image: "b", Hostname: "a.b"}, []string{"--hostname"}},
		"a negative user":               {Flags{Name: "a", Image: "b", User: "-1:5"}, []string{"--user"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := FromFlags(c.flags)
			if diff := cmp.Diff(c.want, fields(t, err)); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
			}
		})
	}
}
