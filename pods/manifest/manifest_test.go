package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
)

const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: shop}\n"

// fields are the places that an error complains about.
func fields(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("%v is a %T, not an InvalidError", err, err)
	}
	var list []string
	for _, p := range invalid.Problems {
		if p.Reason == "" || p.Remedy == "" {
			t.Errorf("%v lacks a reason or a remedy", p)
		}
		list = append(list, p.Field)
	}
	return list
}

func TestEveryExampleManifestIsAccepted(t *testing.T) {
	files, err := filepath.Glob("../../configs/pods/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAManifestIsTakenOverFieldByField(t *testing.T) {
	data, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := int64(999), int64(1000)
	want := &drydockv1.PodSpec{
		Name: "shop", Hostname: "till", Labels: map[string]string{"app": "shop"},
		Annotations: map[string]string{"example.org/owner": "us"}, Addresses: []string{"10.77.1.5"},
		RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_ON_FAILURE,
		OnHostLost:    drydockv1.OnHostLost_ON_HOST_LOST_WAIT, AllowPostcopy: true, Portable: true,
		StopGrace:   &durationpb.Duration{Seconds: 5},
		HostAliases: []*drydockv1.HostAlias{{Ip: "10.0.0.9", Hostnames: []string{"db"}}}, Nameservers: []string{"10.77.0.1"},
		Containers: []*drydockv1.Container{{
			Name: "main", Image: "shop:1", Command: []string{"/shop", "http://x:8080", "$(NONE)"}, Args: []string{"$(PORT)"},
			WorkingDir: "/srv", Env: []*drydockv1.EnvVar{{Name: "PORT", Value: "8080"}, {Name: "URL", Value: "http://x:8080"}},
			Resources: &drydockv1.Resources{
				CpuLimitMillis: 500, CpuRequestMillis: 100, MemoryLimitBytes: 256 << 20, MemoryRequestBytes: 256 << 20,
			},
			Mounts: []*drydockv1.VolumeMount{
				{Volume: "data", Path: "/data", SubPath: "a/b"}, {Volume: "fast", Path: "/fast"},
				{Volume: "nfs", Path: "/nfs", ReadOnly: true},
			},
			Security: &drydockv1.Security{
				RunAsUser: &uid, RunAsGroup: &gid, SupplementaryGroups: []int64{7}, AddCapabilities: []string{"NET_RAW"},
				DropCapabilities: []string{"ALL"}, ReadOnlyRoot: true,
			},
			Probe: &drydockv1.Probe{
				Action:       &drydockv1.Probe_Http{Http: &drydockv1.Probe_HTTP{Port: 8080, Path: "/healthz"}},
				InitialDelay: &durationpb.Duration{Seconds: 3}, Period: &durationpb.Duration{Seconds: 10},
				Timeout: &durationpb.Duration{Seconds: 2}, FailureThreshold: 3,
			},
		}},
		Volumes: []*drydockv1.Volume{
			{Name: "data", Kind: &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}}},
			{Name: "fast", Kind: &drydockv1.Volume_Memory_{Memory: &drydockv1.Volume_Memory{SizeBytes: 64 << 20}}},
			{Name: "nfs", Kind: &drydockv1.Volume_Shared_{Shared: &drydockv1.Volume_Shared{Path: "/srv/nfs"}}},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatTheAPIServerWritesIntoEveryPodIsAccepted(t *testing.T) {
	data, err := os.ReadFile("testdata/from-api-server.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(data); err != nil {
		t.Error(err)
	}
}

func TestEverythingUnsupportedIsRefusedByNameAtOnce(t *testing.T) {
	data, err := os.ReadFile("testdata/unsupported.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Decode(data)
	want := []string{
		"spec.containers[0].colour", "spec.nodePool",
		"metadata.namespace", "metadata.finalizers", "spec.volumes[0].secret", "spec.initContainers",
		"spec.containers[0].ports[0].hostPort", "spec.containers[0].envFrom", "spec.containers[0].env[0].valueFrom",
		"spec.containers[0].resources.limits.ephemeral-storage", "spec.containers[0].volumeMounts[0].mountPropagation",
		"spec.containers[0].livenessProbe.httpGet.scheme", "spec.containers[0].livenessProbe.grpc",
		"spec.containers[0].readinessProbe", "spec.containers[0].lifecycle", "spec.containers[0].imagePullPolicy",
		"spec.containers[0].securityContext.privileged", "spec.containers[0].securityContext.allowPrivilegeEscalation",
		"spec.containers[0].tty", "spec.activeDeadlineSeconds", "spec.hostNetwork", "spec.hostPID",
		"spec.securityContext.fsGroup", "spec.affinity", "spec.tolerations[0].key", "spec.dnsConfig.searches",
		"metadata.annotations.drydock/on-hostlost",
	}
	if diff := cmp.Diff(want, fields(t, err)); diff != "" {
		t.Errorf("(-want +got):\n%s\n%v", diff, err)
	}
}

func TestARefusalNamesTheRemedy(t *testing.T) {
	for name, c := range map[string]struct{ manifest, field, says string }{
		"a host path that no annotation calls shared": {
			head + "spec: {containers: [{name: a, image: b}], volumes: [{name: d, hostPath: {path: /srv/d}}]}",
			"spec.volumes[0].hostPath", "drydock/shared-volumes: d",
		},
		"an annotation that calls an unknown volume shared": {
			"apiVersion: v1\nkind: Pod\nmetadata: {name: shop, annotations: {drydock/shared-volumes: x}}\n" +
				"spec: {containers: [{name: a, image: b}]}", "metadata.annotations.drydock/shared-volumes", "x is no hostPath volume",
		},
		"a disk-backed emptyDir with a limit": {
			head + "spec: {containers: [{name: a, image: b}], volumes: [{name: d, emptyDir: {sizeLimit: 1Gi}}]}",
			"spec.volumes[0].emptyDir.sizeLimit", "medium Memory",
		},
		"a memory volume without size": {
			head + "spec: {containers: [{name: a, image: b}], volumes: [{name: d, emptyDir: {medium: Memory}}]}",
			"spec.volumes[0].emptyDir.sizeLimit", "say how much",
		},
		"huge pages": {
			head + "spec: {containers: [{name: a, image: b}], volumes: [{name: d, emptyDir: {medium: HugePages}}]}",
			"spec.volumes[0].emptyDir.medium", "use Memory",
		},
		"not root, with an unknown user": {
			head + "spec: {containers: [{name: a, image: b, securityContext: {runAsNonRoot: true}}]}",
			"spec.containers[0].securityContext.runAsNonRoot", "runAsUser",
		},
		"a port's name that is not there": {
			head + "spec: {containers: [{name: a, image: b, livenessProbe: {tcpSocket: {port: web}}}]}",
			"spec.containers[0].livenessProbe.tcpSocket.port", "give its number",
		},
		"a probe without action": {
			head + "spec: {containers: [{name: a, image: b, livenessProbe: {periodSeconds: 1}}]}",
			"spec.containers[0].livenessProbe", "asks for nothing",
		},
		"another kind": {
			"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: shop}\nspec: {containers: [{name: a, image: b}]}",
			"kind", "runs pods",
		},
		"another restart policy": {
			head + "spec: {restartPolicy: Sometimes, containers: [{name: a, image: b}]}",
			"spec.restartPolicy", "OnFailure",
		},
		"no name": {
			"apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: b}]}", "metadata.name", "lower-case",
		},
		"no containers": {head, "spec.containers", "at least one"},
		"a bad sub path": {
			head + "spec: {containers: [{name: a, image: b, volumeMounts: [{name: d, mountPath: /d, subPath: ../x}]}]," +
				" volumes: [{name: d, emptyDir: {}}]}", "spec.containers[0].volumeMounts[0].subPath", "without ..",
		},
		"a bad address": {
			"apiVersion: v1\nkind: Pod\nmetadata: {name: shop, annotations: {drydock/address: 10.0.0}}\n" +
				"spec: {containers: [{name: a, image: b}]}", "metadata.annotations.drydock/address", "10.77.1.5/16",
		},
		"too little memory": {
			head + "spec: {containers: [{name: a, image: b, resources: {limits: {memory: 64}}}]}",
			"spec.containers[0].resources.limits.memory", "4Mi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode([]byte(c.manifest))
			if diff := cmp.Diff([]string{c.field}, fields(t, err)); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

func TestWhatIsNoManifestIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ manifest, says string }{
		"nothing":         {"", "0 documents"},
		"two documents":   {head + "---\n" + head, "2 documents"},
		"no YAML":         {"a: [", "yaml"},
		"a key twice":     {head + "kind: Pod\n", "already set"},
		"a wrong type":    {head + "spec: {containers: 3}", "containers"},
		"a list":          {"[1]", "cannot unmarshal"},
		"a wrong integer": {head + "spec: {terminationGracePeriodSeconds: soon}", "terminationGracePeriodSeconds"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode([]byte(c.manifest))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

func TestReferencesToVariablesAreExpandedAsInKubernetes(t *testing.T) {
	values := map[string]string{"A": "1", "B": "$(A)"}
	for text, want := range map[string]string{
		"$(A)": "1", "x$(A)y$(A)": "x1y1", "$$(A)": "$(A)", "$(C)": "$(C)", "$": "$", "$A": "$A", "$(A": "$(A", "$()": "$()",
		"$(B)": "$(A)", "$$$(A)": "$1", "": "", "a$$": "a$",
	} {
		if got := expand(text, values); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
