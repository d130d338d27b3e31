//go:build root

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
)

// answer is what a command line said and how it ended.
type answer struct {
	out, err string
	status   int
}

func (a answer) String() string {
	return "stdout:\n" + a.out + "stderr:\n" + a.err
}

// try types a command line of drydock.
func try(t *testing.T, args ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit) // clean-ups call it too
	defer cancel()
	cmd := exec.CommandContext(ctx, shared.binary, args...)
	cmd.Env = append(os.Environ(), shared.Env()...)
	return finish(t, cmd)
}

func finish(t *testing.T, cmd *exec.Cmd) answer {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return answer{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// do types a command line that must be carried out, and returns what it printed.
func do(t *testing.T, args ...string) string {
	t.Helper()
	got := try(t, args...)
	if got.status != 0 {
		t.Fatalf("drydock %s ended with %d\n%s", strings.Join(args, " "), got.status, got)
	}
	return got.out
}

// inside runs a shell's command line in a pod.
func inside(t *testing.T, pod, script string) string {
	t.Helper()
	return strings.TrimSpace(do(t, "pod", "exec", pod, "--", "/bin/sh", "-c", script))
}

// runPod runs a pod that is removed when the test ends.
func runPod(t *testing.T, name string, args ...string) {
	t.Helper()
	t.Cleanup(func() { discard(t, name) })
	do(t, append([]string{"pod", "run", name}, args...)...)
	seen(t, name)
}

// seen looks that the pod's host has reported its processes: what an order has made is on record when it is answered.
func seen(t *testing.T, name string) {
	t.Helper()
	if now := pod(t, name); len(now.Containers) == 0 || now.Containers[0].Pid == 0 {
		t.Fatalf("pod %s has no processes on record: %v", name, now)
	}
}

func discard(t *testing.T, pod string) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := shared.RemovePod(ctx, connect.NewRequest(&drydockv1.RemovePodRequest{Name: pod, Force: true}))
	if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("remove pod %s: %v", pod, err)
	}
}

// state is what a refused command must not change.
type state struct {
	Pods   []podState
	Hosts  []hostState
	Images []string
}

type podState struct {
	Name, Host, Phase, Migration string
	Epoch                        uint64
	PIDs                         []uint32
}

type hostState struct {
	Name, Address, Boot, State string
	Pods                       []string
}

func look(t *testing.T) (s state) {
	t.Helper()
	pods, err := shared.ListPods(t.Context(), connect.NewRequest(&drydockv1.ListPodsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Msg.Pods {
		now := podState{Name: p.Spec.Name, Host: p.Host, Phase: p.Phase.String(), Migration: p.Migration, Epoch: p.Epoch}
		for _, c := range p.Containers {
			now.PIDs = append(now.PIDs, c.Pid)
		}
		s.Pods = append(s.Pods, now)
	}
	hosts, err := shared.ListHosts(t.Context(), connect.NewRequest(&drydockv1.ListHostsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts.Msg.Hosts {
		s.Hosts = append(s.Hosts, hostState{h.Name, h.Address, h.BootId, h.State, h.Pods})
	}
	images, err := shared.ListImages(t.Context(), connect.NewRequest(&drydockv1.ListImagesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images.Msg.Images {
		s.Images = append(s.Images, i.Reference+" "+i.Digest)
	}
	return s
}

// refuses types a command line that must end with a status and words for the operator, and change nothing.
func refuses(t *testing.T, status int, want []string, args ...string) {
	t.Helper()
	before := look(t)
	got := try(t, args...)
	checkRefusal(t, got, status, want)
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("drydock %s changed something (-before +after):\n%s", strings.Join(args, " "), diff)
	}
}

func checkRefusal(t *testing.T, got answer, status int, want []string) {
	t.Helper()
	if got.status != status {
		t.Errorf("ended with %d, not %d", got.status, status)
	}
	if n := strings.Count("\n"+got.err, "\ndrydock: "); n != 1 {
		t.Errorf("%d lines say what is wrong, not one", n)
	}
	var reasons, remedies []string
	for line := range strings.Lines(got.err) {
		if _, remedy, found := strings.Cut(line, "remedy: "); found {
			remedies = append(remedies, strings.TrimSpace(remedy))
		} else {
			reasons = append(reasons, line)
		}
	}
	for _, remedy := range remedies {
		if said := strings.Join(reasons, ""); strings.Contains(said, remedy) {
			t.Errorf("says %q with the reason and again as the remedy", remedy)
		}
	}
	for _, words := range want {
		if !strings.Contains(got.err, words) {
			t.Errorf("does not say %q", words)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// until waits for something that takes a moment.
func until(t *testing.T, what string, done func() bool, why ...func() string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !done() {
		if time.Now().After(deadline) {
			for _, reason := range why {
				t.Log(reason())
			}
			t.Fatalf("%s did not happen: %+v", what, look(t))
		}
		time.Sleep(lookAgain)
	}
}

func hostIs(t *testing.T, host, want string) func() bool {
	return func() bool {
		for _, h := range look(t).Hosts {
			if h.Name == host {
				return h.State == want
			}
		}
		return false
	}
}

func pod(t *testing.T, name string) *drydockv1.Pod {
	t.Helper()
	res, err := shared.GetPod(t.Context(), connect.NewRequest(&drydockv1.GetPodRequest{Name: name}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.Pod
}
