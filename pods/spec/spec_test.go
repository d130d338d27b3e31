package spec

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	drydockv1 "drydock/api/drydock/v1"
)

// input describes the pod shop, with a root file system and volumes in a directory of its own.
func input(t *testing.T) Input {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"root/etc", "data", "nfs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\nredis:x:999:998::/:/bin/sh\n",
		"group":  "root:x:0:\nredis:x:998:\nextra:x:1000:redis\nadm:x:4:root\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "root/etc", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Input{
		Pod: &drydockv1.PodSpec{
			Name:       "shop",
			Containers: []*drydockv1.Container{{Name: "main", Image: "shop:1"}},
			Volumes: []*drydockv1.Volume{
				{Name: "data", Kind: &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}}},
				{Name: "nfs", Kind: &drydockv1.Volume_Shared_{Shared: &drydockv1.Volume_Shared{Path: "/srv/nfs"}}},
				{Name: "fast", Kind: &drydockv1.Volume_Memory_{Memory: &drydockv1.Volume_Memory{SizeBytes: 1 << 20}}},
			},
		},
		Image:  v1.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"LANG=C"}, WorkingDir: "/w"},
		RootFS: filepath.Join(dir, "root"), Epoch: 7, NetNS: "/run/netns/shop", Cgroup: "/drydock/shop/main",
		Volumes: map[string]string{"data": filepath.Join(dir, "data"), "nfs": filepath.Join(dir, "nfs")},
		Hosts:   "/pod/hosts", Hostname: "/pod/hostname", ResolvConf: "/pod/resolv.conf", Empty: "/pod/empty",
		CRIUConfig: "/pod/criu.conf",
	}
}

func build(t *testing.T, in Input) *specs.Spec {
	t.Helper()
	s, err := Build(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASpecificationHasWhatEveryPodHas(t *testing.T) {
	s := build(t, input(t))
	if s.Root.Path != "rootfs" || s.Root.Readonly || s.Hostname != "shop" || s.Process.Terminal {
		t.Errorf("root %+v, hostname %s, terminal %v", s.Root, s.Hostname, s.Process.Terminal)
	}
	if !s.Process.NoNewPrivileges || s.Linux.Seccomp == nil || s.Linux.CgroupsPath != "/drydock/shop/main" {
		t.Errorf("process %+v, cgroup %s", s.Process, s.Linux.CgroupsPath)
	}
	want := map[string]string{
		"org.criu.config": "/pod/criu.conf", "drydock.pod": "shop", "drydock.container": "main", "drydock.epoch": "7",
	}
	if diff := cmp.Diff(want, s.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	namespaces := []specs.LinuxNamespace{
		{Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "network", Path: "/run/netns/shop"},
	}
	if diff := cmp.Diff(namespaces, s.Linux.Namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	caps := &specs.LinuxCapabilities{
		Bounding: DefaultCapabilities(), Effective: DefaultCapabilities(), Permitted: DefaultCapabilities(),
	}
	if diff := cmp.Diff(caps, s.Process.Capabilities); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
}

func TestTheSameInputGivesTheSameSpecification(t *testing.T) {
	in := input(t)
	a, err := json.Marshal(build(t, in))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(build(t, in))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(a), string(b)); diff != "" {
		t.Error(diff)
	}
}

func TestMountsAreFewAndInOrder(t *testing.T) {
	in := input(t)
	in.Pod.Containers[0].Mounts = []*drydockv1.VolumeMount{
		{Volume: "data", Path: "/var/lib/data/", SubPath: "a/b"}, {Volume: "nfs", Path: "/nfs", ReadOnly: true},
		{Volume: "fast", Path: "/fast"},
	}
	var got []string
	for _, m := range build(t, in).Mounts {
		got = append(got, m.Type+" "+m.Destination+" "+strings.TrimPrefix(m.Source, filepath.Dir(in.RootFS))+
			" "+strings.Join(m.Options, ","))
	}
	want := []string{
		"proc /proc proc nosuid,noexec,nodev",
		"tmpfs /dev tmpfs nosuid,strictatime,mode=755,size=64k",
		"sysfs /sys sysfs nosuid,noexec,nodev,ro",
		"bind /nfs /nfs bind,private,nosuid,nodev,ro",
		"tmpfs /fast fast nosuid,nodev,mode=1777,size=1048576",
		"devpts /dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
		"tmpfs /dev/shm shm nosuid,noexec,nodev,mode=1777,size=64m",
		"bind /sys/firmware /pod/empty bind,private,nosuid,nodev,ro",
		"bind /etc/hosts /pod/hosts bind,private,nosuid,nodev,ro",
		"bind /etc/hostname /pod/hostname bind,private,nosuid,nodev,ro",
		"bind /etc/resolv.conf /pod/resolv.conf bind,private,nosuid,nodev,ro",
		"bind /var/lib/data /data/a/b bind,private,nosuid,nodev",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(in.Volumes["data"], "a/b")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the sub path was not made like its volume: %v %v", info, err)
	}
}

func TestOnlyWhatAnyKernelHasIsHiddenBehindAMountOfItsOwn(t *testing.T) {
	for _, path := range maskedPaths() {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			t.Errorf("%s is a directory; hiding it costs a tmpfs", path)
		}
	}
	if s := build(t, input(t)); len(ProtectedPaths()) != len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) {
		t.Error("ProtectedPaths is not what the specification has")
	}
}

func TestArgumentsEnvironmentAndDirectoryFollowTheImageUnlessGiven(t *testing.T) {
	for name, c := range map[string]struct {
		container *drydockv1.Container
		image     v1.ImageConfig
		args, env []string
		cwd       string
	}{
		"all from the image": {
			&drydockv1.Container{}, v1.ImageConfig{
				Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=1", "PATH=/bin", "A=2"}, WorkingDir: "/w",
			}, []string{"/e", "c"}, []string{"PATH=/bin", "A=2", "HOSTNAME=shop"}, "/w",
		},
		"nothing from the image": {
			&drydockv1.Container{Command: []string{"/x"}}, v1.ImageConfig{},
			[]string{"/x"}, []string{defaultPath, "HOSTNAME=shop"}, "/",
		},
		"a command drops the image's arguments": {
			&drydockv1.Container{Command: []string{"/x"}, WorkingDir: "/d"},
			v1.ImageConfig{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, WorkingDir: "/w"},
			[]string{"/x"}, []string{defaultPath, "HOSTNAME=shop"}, "/d",
		},
		"arguments keep the image's entry point": {
			&drydockv1.Container{Args: []string{"y"}, Env: []*drydockv1.EnvVar{{Name: "A", Value: "3"}, {Name: "B"}}},
			v1.ImageConfig{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=1"}},
			[]string{"/e", "y"}, []string{defaultPath, "A=3", "HOSTNAME=shop", "B="}, "/",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(t)
			in.Pod.Containers[0], in.Image = c.container, c.image
			p := build(t, in).Process
			if diff := cmp.Diff(c.args, p.Args); diff != "" {
				t.Errorf("args (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.env, p.Env); diff != "" {
				t.Errorf("env (-want +got):\n%s", diff)
			}
			if p.Cwd != c.cwd {
				t.Errorf("cwd %s, want %s", p.Cwd, c.cwd)
			}
		})
	}
}

func TestAPortablePodsProgramsAreToldToUseWhatEveryKernelHas(t *testing.T) {
	for name, c := range map[string]struct {
		image []string
		own   []*drydockv1.EnvVar
		want  string
	}{
		"nothing said":     {nil, nil, "GLIBC_TUNABLES=glibc.pthread.rseq=0"},
		"by the image":     {[]string{"GLIBC_TUNABLES=glibc.malloc.arena_max=1"}, nil, "GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.pthread.rseq=0"},
		"by the container": {[]string{"GLIBC_TUNABLES=x=1"}, []*drydockv1.EnvVar{{Name: "GLIBC_TUNABLES", Value: "y=2"}}, "GLIBC_TUNABLES=y=2:glibc.pthread.rseq=0"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(t)
			in.Pod.Portable = true
			in.Pod.Containers[0], in.Image = &drydockv1.Container{Command: []string{"/x"}, Env: c.own}, v1.ImageConfig{Env: c.image}
			var said []string
			for _, variable := range build(t, in).Process.Env {
				if strings.HasPrefix(variable, "GLIBC_TUNABLES=") {
					said = append(said, variable)
				}
			}
			if diff := cmp.Diff([]string{c.want}, said); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUsersAndGroupsAreThoseOfTheImageOrOnesGiven(t *testing.T) {
	id := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct {
		image    string
		security *drydockv1.Security
		want     specs.User
	}{
		"nobody named": {"", nil, specs.User{AdditionalGids: []uint32{0, 4}}},
		"a name":       {"redis", nil, specs.User{UID: 999, GID: 998, AdditionalGids: []uint32{998, 1000}}},
		"an id":        {"999", nil, specs.User{UID: 999, GID: 998, AdditionalGids: []uint32{998, 1000}}},
		"name and group": {
			"redis:adm", nil, specs.User{UID: 999, GID: 4, AdditionalGids: []uint32{4, 1000}},
		},
		"ids":           {"5:6", nil, specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6}}},
		"an unknown id": {"5", nil, specs.User{UID: 5, AdditionalGids: []uint32{0}}},
		"a user of ours": {
			"redis", &drydockv1.Security{RunAsUser: id(0)}, specs.User{AdditionalGids: []uint32{0, 4}},
		},
		"a group of ours": {
			"redis", &drydockv1.Security{RunAsGroup: id(7)},
			specs.User{UID: 999, GID: 7, AdditionalGids: []uint32{7, 1000}},
		},
		"both of ours": {
			"", &drydockv1.Security{RunAsUser: id(5), RunAsGroup: id(7)},
			specs.User{UID: 5, GID: 7, AdditionalGids: []uint32{7}},
		},
		"an additional group": {
			"5:6", &drydockv1.Security{SupplementaryGroups: []int64{42}},
			specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6, 42}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(t)
			in.Image.User, in.Pod.Containers[0].Security = c.image, c.security
			if diff := cmp.Diff(c.want, build(t, in).Process.User); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCapabilitiesAreDroppedBeforeTheyAreAdded(t *testing.T) {
	for name, c := range map[string]struct{ add, drop, want []string }{
		"as they are": {nil, nil, DefaultCapabilities()},
		"none":        {nil, []string{"ALL"}, []string{}},
		"only one":    {[]string{"NET_BIND_SERVICE"}, []string{"ALL"}, []string{"CAP_NET_BIND_SERVICE"}},
		"one less": {nil, []string{"CAP_KILL"}, slices.DeleteFunc(DefaultCapabilities(), func(c string) bool {
			return c == "CAP_KILL"
		})},
		"one twice": {[]string{"CAP_CHOWN", "CHOWN"}, []string{"ALL"}, []string{"CAP_CHOWN"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := capabilities(&drydockv1.Security{AddCapabilities: c.add, DropCapabilities: c.drop})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLimitsBecomeCgroupSettings(t *testing.T) {
	in := input(t)
	in.Pod.Containers[0].Resources = &drydockv1.Resources{
		CpuLimitMillis: 500, CpuRequestMillis: 100, MemoryLimitBytes: 1 << 20, MemoryRequestBytes: 1 << 19,
	}
	r := build(t, in).Linux.Resources
	if *r.CPU.Quota != 50_000 || *r.CPU.Period != 100_000 || *r.CPU.Shares != 102 || *r.Memory.Limit != 1<<20 {
		t.Errorf("cpu %+v, memory %+v", r.CPU, r.Memory)
	}
	if r.Memory.Swappiness == nil || *r.Memory.Swappiness != 0 || r.Unified != nil {
		t.Errorf("on cgroup v1 swapping is not off: %+v %v", r.Memory, r.Unified)
	}
	in.Cgroup2, in.Pod.Containers[0].Resources = true, nil
	r = build(t, in).Linux.Resources
	if r.CPU.Quota != nil || r.CPU.Shares != nil || r.Memory.Limit != nil || r.Memory.Swappiness != nil {
		t.Errorf("limits without being asked for: cpu %+v, memory %+v", r.CPU, r.Memory)
	}
	if r.Unified["memory.swap.max"] != "0" {
		t.Errorf("on cgroup v2 swapping is not off: %v", r.Unified)
	}
}

func TestBuildRefusesWhatItCannotBuild(t *testing.T) {
	link := func(t *testing.T, in *Input) {
		t.Helper()
		if err := os.Symlink("/etc", filepath.Join(in.Volumes["data"], "link")); err != nil {
			t.Fatal(err)
		}
		in.Pod.Containers[0].Mounts = []*drydockv1.VolumeMount{{Volume: "data", Path: "/d", SubPath: "link/x"}}
	}
	homeless := func(_ *testing.T, in *Input) {
		in.Volumes = nil
		in.Pod.Containers[0].Mounts = []*drydockv1.VolumeMount{{Volume: "nfs", Path: "/n"}}
	}
	for name, c := range map[string]struct {
		change func(*testing.T, *Input)
		says   string
	}{
		"no such container":       {func(_ *testing.T, in *Input) { in.Container = 1 }, "no container 1"},
		"a relative path":         {func(_ *testing.T, in *Input) { in.NetNS = "shop" }, "network namespace"},
		"nothing to run":          {func(_ *testing.T, in *Input) { in.Image = v1.ImageConfig{} }, "give the container a command"},
		"a user nobody knows":     {func(_ *testing.T, in *Input) { in.Image.User = "nobody" }, "user and groups"},
		"a link for a sub path":   {link, "link is not a directory"},
		"a volume without a home": {homeless, "volume nfs"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(t)
			c.change(t, &in)
			_, err := Build(t.Context(), in)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "pod shop") {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}
