//go:build root

package e2e

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/census"
)

// TestRemovingAPodLeavesNothing looks at what is on the hosts before a pod comes and after it has gone: processes,
// namespaces, mounts, cgroups, links, files, and what containerd knows. A first pod has brought what is kept on purpose, as
// the images and the fence.
func TestRemovingAPodLeavesNothing(t *testing.T) {
	live := func(name string) {
		t.Cleanup(func() { discard(t, name) })
		manifest := `{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `}, spec: {volumes: [{name: data, emptyDir: {}}], containers: [
  {name: redis, image: redis, resources: {limits: {memory: 96Mi, cpu: 500m}}},
  {name: shell, image: workbench, volumeMounts: [{name: data, mountPath: /data}], command: [/bin/sh, -c, "trap 'exit 0' TERM; while :; do sleep 1; done"]}]}}`
		do(t, "pod", "run", "--host", "h1", "-f", writeManifest(t, manifest))
		do(t, "pod", "exec", "-c", "shell", name, "--", "/bin/sh", "-c", "echo kept >/data/file")
		move(t, name, "h2")
		do(t, "pod", "stop", name)
		do(t, "pod", "start", name)
		move(t, name, "h3")
		do(t, "pod", "rm", "--force", name)
	}
	live("early")
	before, err := census.Take(t.Context(), shared.Rig)
	if err != nil {
		t.Fatal(err)
	}
	live("late")
	var more []string
	until(t, "the end of what the shims and the kernel still had to do", func() bool {
		after, err := census.Take(t.Context(), shared.Rig)
		if err != nil {
			t.Fatal(err)
		}
		more = before.More(after)
		return len(more) == 0
	}, func() string { return strings.Join(more, "\n") })
}

func TestAPodMadeAgainUnderTheSameNameIsAnotherOne(t *testing.T) {
	runPod(t, "again", append([]string{"-v", "data:/data"}, idle...)...)
	inside(t, "again", "echo old >/data/file")
	move(t, "again", "h2")
	first := pod(t, "again")
	for _, host := range []string{"h2", "h1"} {
		do(t, "pod", "rm", "--force", "again")
		do(t, "pod", "run", "again", "--host", host, "--image", "nginx", "-v", "data:/data", "--health-http", "80/data.bin")
		seen(t, "again")
		if got := inside(t, "again", "ls /data; cat /proc/1/comm"); strings.Contains(got, "file") || !strings.Contains(got, "nginx") {
			t.Errorf("on %s it has what the first one had: %s", host, got)
		}
		if now := pod(t, "again"); now.Spec.Addresses[0] != first.Spec.Addresses[0] {
			t.Errorf("address %s was still taken: %s", first.Spec.Addresses[0], now.Spec.Addresses[0])
		}
	}
	move(t, "again", "h2")
	move(t, "again", "h1")
}

// TestANameIsTakenUntilTheHostHasSaidThatThePodIsGone: a host that cannot be asked keeps what it has, and so the name.
func TestANameIsTakenUntilTheHostHasSaidThatThePodIsGone(t *testing.T) {
	runPod(t, "held", append([]string{"--on-host-lost", "wait"}, idle...)...)
	do(t, "pod", "stop", "held")
	cut(t, "h1")
	refuses(t, 3, []string{"host h1 is unreachable", "confirm-dead"}, "pod", "rm", "held")
	refuses(t, 3, []string{"held", "choose another name"}, "pod", "run", "held", "--image", "redis", "--host", "h2")
	mend(t, "h1")
	do(t, "pod", "rm", "held")
	_, err := shared.GetPod(t.Context(), connect.NewRequest(&drydockv1.GetPodRequest{Name: "held"}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("it is still there: %v", err)
	}
}
