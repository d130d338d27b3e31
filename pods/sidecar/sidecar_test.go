package sidecar

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/strictyaml"
	"drydock/pods/manifest"
	"drydock/shim/kept"
	"drydock/shim/message"
	"drydock/shim/process"
)

func podWith(shim *drydockv1.ShimSpec, addresses ...string) *drydockv1.PodSpec {
	return &drydockv1.PodSpec{
		Name: "greeter", Addresses: addresses, Shim: shim,
		Containers: []*drydockv1.Container{{Name: "server", Image: "greeter"}},
	}
}

func TestTheConfigurationIsOneThatShimsTake(t *testing.T) {
	for name, test := range map[string]struct {
		shim      *drydockv1.ShimSpec
		addresses []string
		want      process.Config
	}{
		"a sidecar": {
			&drydockv1.ShimSpec{Service: "greeter", Version: "v2", Ports: []uint32{8080, 8081}, Clients: map[string]string{"10.0.0.9": "v1"}, Generation: 3, MaxBody: 7},
			[]string{"10.0.0.5/16"},
			process.Config{
				Record: "3/record.yaml", Server: &process.Server{Address: "10.0.0.5:8080", Version: "v2"}, Clients: map[string]string{"10.0.0.9": "v1"},
				Listen: []process.Listen{{Address: "127.0.0.1:15080", Port: 8080}, {Address: "127.0.0.1:15081", Port: 8081}}, MaxBody: 7,
				Control: "/shim/run/shim.sock", State: "/shim/state",
			},
		},
		"a sidecar in a pod with IPv6": {
			&drydockv1.ShimSpec{Service: "greeter", Version: "v2", Ports: []uint32{8080}},
			[]string{"fd77::5/64", "10.0.0.5/16"},
			process.Config{
				Record: "0/record.yaml", Server: &process.Server{Address: "[fd77::5]:8080", Version: "v2"}, Control: "/shim/run/shim.sock", State: "/shim/state",
				Listen: []process.Listen{{Address: "127.0.0.1:15080", Port: 8080}, {Address: "[::1]:15080", Port: 8080}},
			},
		},
		"a gateway": {
			&drydockv1.ShimSpec{
				Service: "orders", Ports: []uint32{8080}, HealthPath: "/healthz", HealthEvery: durationpb.New(2 * time.Second), Traces: "10.0.0.8:4317",
				Backends: []*drydockv1.ShimBackend{{Name: "orders-0", Address: "10.0.0.6:8080", Version: "v1", Hold: true}}, Pass: true,
			},
			[]string{"10.0.0.5/16"},
			process.Config{
				Record: "0/record.yaml", Backends: []process.Backend{{Name: "orders-0", Address: "10.0.0.6:8080", Version: "v1", Hold: true}}, Pass: true,
				Health: process.Health{Path: "/healthz", Every: 2 * time.Second}, Listen: []process.Listen{{Address: ":8080"}}, Traces: "10.0.0.8:4317",
				Control: "/shim/run/shim.sock", State: "/shim/state",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := Configuration(podWith(test.shim, test.addresses...))
			if err != nil {
				t.Fatal(err)
			}
			var got process.Config
			if _, err := strictyaml.Decode("shim.yaml", text, &got); err != nil {
				t.Fatalf("%v:\n%s", err, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPodWithAShimIsAValidPodAndWithoutItIsAsItWas(t *testing.T) {
	shim := &drydockv1.ShimSpec{Service: "greeter", Version: "v2", Ports: []uint32{8080}}
	pod := podWith(shim, "10.0.0.5/16")
	first, second, third := Add(pod, "drydock/shim:1", "sha256:1"), Add(pod, "drydock/shim:2", "sha256:2"), Add(pod, "drydock/shim:3", "sha256:3")
	if diff := cmp.Diff([]string{first, second, third}, In(pod)); diff != "" || len(pod.Volumes) != 1 {
		t.Errorf("%d volumes, shims (-want +got):\n%s", len(pod.Volumes), diff)
	}
	if first == second || second == third {
		t.Errorf("two are called %s, %s, %s", first, second, third)
	}
	for _, c := range pod.Containers[1:] {
		c.ImageDigest = "" // they are no digests
	}
	if err := manifest.Validate(pod); err != nil {
		t.Error(err)
	}
	for _, name := range In(pod) {
		Remove(pod, name)
	}
	if len(pod.Containers) != 1 || pod.Containers[0].Name != "server" {
		t.Errorf("left are %v", pod.Containers)
	}
}

func TestWrongShimsAreRefused(t *testing.T) {
	backends := []*drydockv1.ShimBackend{{Name: "a", Address: "10.0.0.6:80", Version: "v1"}}
	for name, test := range map[string]struct {
		shim *drydockv1.ShimSpec
		want string
	}{
		"no port":           {&drydockv1.ShimSpec{Version: "v1"}, "has no port"},
		"neither":           {&drydockv1.ShimSpec{Ports: []uint32{80}}, "needs the version"},
		"both":              {&drydockv1.ShimSpec{Ports: []uint32{80}, Version: "v1", Backends: backends}, "not both"},
		"a port twice":      {&drydockv1.ShimSpec{Ports: []uint32{80, 80}, Version: "v1"}, "there twice"},
		"no such port":      {&drydockv1.ShimSpec{Ports: []uint32{70000}, Version: "v1"}, "is no port"},
		"a file elsewhere":  {&drydockv1.ShimSpec{Ports: []uint32{80}, Version: "v1", Files: map[string][]byte{"../x": nil}}, "beside its record"},
		"the record's name": {&drydockv1.ShimSpec{Ports: []uint32{80}, Version: "v1", Files: map[string][]byte{"record.yaml": nil}}, "beside its record"},
	} {
		if err := Check(test.shim); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Check(&drydockv1.ShimSpec{Ports: []uint32{80}, Backends: backends, Files: map[string][]byte{"modules/a.wasm": nil}}); err != nil {
		t.Error(err)
	}
}

func TestAChangeOfTheRecordAndItsFilesIsOneOfTheConfiguration(t *testing.T) {
	volume := t.TempDir()
	pod := podWith(&drydockv1.ShimSpec{Version: "v2", Ports: []uint32{8080}, Generation: 1, Record: []byte("one"), Files: map[string][]byte{"modules/a.wasm": []byte("a")}})
	write := func() string {
		record, err := WriteRecord(volume, pod)
		if err = errors.Join(err, Write(volume, pod)); err != nil {
			t.Fatal(err)
		}
		return record
	}
	first := write()
	if data, err := os.ReadFile(filepath.Join(filepath.Dir(first), "modules/a.wasm")); err != nil || string(data) != "a" {
		t.Errorf("%q, %v", data, err)
	}
	pod.Shim = &drydockv1.ShimSpec{Version: "v2", Ports: []uint32{8080}, Generation: 2, Record: []byte("two")}
	second := write()
	if one, err := os.ReadFile(first); err != nil || string(one) != "one" {
		t.Errorf("the first record is %q, %v", one, err)
	}
	if err := Tidy(volume, pod); err != nil {
		t.Fatal(err)
	}
	if two, err := os.ReadFile(second); err != nil || string(two) != "two" {
		t.Errorf("the second record is %q, %v", two, err)
	}
	if _, err := os.Stat(filepath.Dir(first)); !os.IsNotExist(err) {
		t.Errorf("the first is there yet: %v", err)
	}
}

func TestTheSameProgramGivesTheSameImage(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	var archives [2]bytes.Buffer
	var digests [2]string
	for i := range archives {
		img, err := NewImage(program)
		if err == nil {
			err = img.Write(&archives[i], "drydock/shim:1")
		}
		if err != nil {
			t.Fatal(err)
		}
		digests[i] = img.Digest()
		if err := os.Chtimes(program, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if digests[0] != digests[1] || !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Errorf("%s and %s", digests[0], digests[1])
	}
	names := map[string]bool{}
	for in := tar.NewReader(&archives[0]); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names[header.Name] = true
	}
	if !names["oci-layout"] || !names["index.json"] || !names["blobs/sha256/"+strings.TrimPrefix(digests[0], "sha256:")] || len(names) != 5 {
		t.Errorf("the archive has %v", names)
	}
}

func TestWhatAShimHasKeptCanBeReadByTheTransformsUser(t *testing.T) {
	volume := t.TempDir()
	if err := ShowKept(volume); err != nil {
		t.Errorf("where nothing was kept: %v", err)
	}
	store, err := kept.Open(filepath.Join(volume, Kept))
	if err != nil {
		t.Fatal(err)
	}
	value, err := message.ParseJSON([]byte(`"gift"`))
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(store.Pair("v1-v2").Keep("note", "7", value), os.WriteFile(outside, nil, 0o600), os.Symlink(outside, filepath.Join(volume, Kept, "link"))); err != nil {
		t.Fatal(err)
	}
	if err := ShowKept(volume); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(volume, Kept, "v1-v2", "note", "*", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	for path := files[0]; path != volume; path = filepath.Dir(path) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o004 == 0 || info.IsDir() && info.Mode().Perm()&0o001 == 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file outside of the volume is %v: %v", info.Mode(), err)
	}
}
