//go:build faults

package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"drydock/lab"
	"drydock/lab/rig"
	"drydock/lab/selfcheck"

	drydockv1 "drydock/api/drydock/v1"

	"connectrpc.com/connect"
)

var (
	set  = flag.String("set", "full", "cases to run: full, or ci for one kill per step and each link fault once")
	keep = flag.Bool("keep", false, "leave the lab up at the end")
	name = flag.String("lab", "faults", "the lab's name: another one lets two runs go side by side")
	// It is no promise about speed.
	limit = flag.Duration("limit", 2*time.Minute, "how long anything may take before it counts as never happening")
)

const (
	podName   = "victim"
	stop      = drydockv1.MigrationMode_MIGRATION_MODE_STOP
	postcopy  = drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY
	lookAgain = 20 * time.Millisecond
)

// bench is the lab that the cases share. A case that fails leaves it broken, and the next one gets a new one.
type bench struct {
	*rig.Rig
	binary string
	// controllers is how many there are; 0: one.
	controllers int
	broken      bool
	// unshared: the pod's volume is of its own, and goes with it from host to host.
	unshared bool
	// empty and full are what lies on a host without and with the pod.
	empty, full map[string]inventory
}

func TestFaults(t *testing.T) {
	b := &bench{binary: buildDrydock(t)}
	for _, c := range cases() {
		if *set == "ci" && !c.ci {
			continue
		}
		if c.unshared != b.unshared {
			b = &bench{binary: b.binary, unshared: c.unshared}
		}
		t.Run(c.name, func(t *testing.T) { b.play(t, c) })
	}
}

// builds is the directory in which the program is built that hosts run: once for all tests.
var builds string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if builds, err = os.MkdirTemp("", "drydock-faults-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(builds)
	return m.Run()
}

// buildDrydock makes the program that hosts run, unless it is there, and has their lab removed when the test ends.
func buildDrydock(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(builds, "drydock")
	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		build := exec.Command("go", "build", "-o", binary, "drydock/cmd/drydock")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build drydock: %v\n%s", err, out)
		}
	}
	t.Cleanup(func() {
		if *keep {
			return
		}
		if err := lab.Down(context.Background(), *name); err != nil && !errors.Is(err, lab.ErrNotFound) {
			t.Error(err)
		}
	})
	return binary
}

// ready gives the bench a lab whose pod has been on both hosts, if it has none that is whole.
func (b *bench) ready(t *testing.T) {
	t.Helper()
	if b.Rig != nil && !b.broken {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var err error
	b.Rig, err = rig.Up(ctx, lab.Options{Name: *name, Hosts: 2, Controllers: b.controllers, Binary: b.binary, FaultPoints: true})
	if err != nil {
		t.Fatal(err)
	}
	b.broken = true // until all of this has worked
	b.empty, b.full = make(map[string]inventory), make(map[string]inventory)
	for _, host := range b.Hosts() {
		if err := b.installHook(host); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.ImportImages(ctx, "h1", os.Stderr, "redis", "workbench"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.generationDir(), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Run(ctx, podSpec(b.unshared), "h1"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"h2", "h1", "h2"} {
		if _, err := b.Move(ctx, podName, to, stop, nil); err != nil {
			t.Fatal(err)
		}
		if err := b.remember(ctx, to); err != nil {
			t.Fatal(err)
		}
	}
	b.broken = false
}

// remember takes down what is where while the pod is on a host and nothing moves.
func (b *bench) remember(ctx context.Context, on string) error {
	for _, host := range b.Hosts() {
		now, err := b.inventory(ctx, host)
		if err != nil {
			return err
		}
		if host == on {
			b.full[host] = now
		} else {
			b.empty[host] = now
		}
	}
	return nil
}

// podSpec is a Redis whose writes are accounted for, with the program beside it that finds out other copies of itself: all that
// there are where its volume is shared, and else those that ran on the same files.
func podSpec(unshared bool) *drydockv1.PodSpec {
	volume := &drydockv1.Volume{
		Name: "generation", Kind: &drydockv1.Volume_Shared_{Shared: &drydockv1.Volume_Shared{Path: "/srv/shared/generation"}},
	}
	if unshared {
		volume.Kind = &drydockv1.Volume_Local_{Local: new(drydockv1.Volume_Local)}
	}
	return &drydockv1.PodSpec{
		Name: podName, AllowPostcopy: true,
		Containers: []*drydockv1.Container{
			{Name: "redis", Image: "redis"},
			{
				Name: "check", Image: "workbench",
				Args:   []string{"--generation-file", "/generation", "--beat", "2ms", "--pause", "1s", "--skip", skipped},
				Mounts: []*drydockv1.VolumeMount{{Volume: "generation", Path: "/generation"}},
			},
		},
		Volumes:       []*drydockv1.Volume{volume},
		RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_ALWAYS,
		OnHostLost:    drydockv1.OnHostLost_ON_HOST_LOST_RESTART,
	}
}

// skipped are checks that have tests of their own; here they would only make the pod larger.
const skipped = "sysv-shared-memory,sysv-semaphores,sysv-messages,posix-shared-memory,deleted-file,file-locks,memory-maps," +
	"unix-stream,unix-packets,epoll,pending-signals,signalfd,interval-timer,posix-timer,child,zombie,shell-pipeline"

func (b *bench) generationDir() string { return filepath.Join(b.SharedDir(), "generation") }

// generation is what the pod has counted on a host.
func (b *bench) generation(host string) (selfcheck.Generation, error) {
	if b.unshared {
		return selfcheck.ReadGeneration(filepath.Join(b.DataDir(host), "volumes", podName, "generation"))
	}
	return selfcheck.ReadGeneration(b.generationDir())
}

// pod is the pod as the controller sees it, which may not answer.
func (b *bench) pod(ctx context.Context) (*drydockv1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	res, err := b.GetPod(ctx, connect.NewRequest(&drydockv1.GetPodRequest{Name: podName}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Pod, nil
}

// fit waits until both hosts would take part in a move: what the last case has killed needs a moment until it can be asked.
func (s *scene) fit() error {
	return until(s.ctx, "two hosts that are fit", func() (bool, string) {
		stream, err := s.MigratePod(s.ctx, connect.NewRequest(&drydockv1.MigratePodRequest{Pod: podName, To: s.destination, Mode: stop, DryRun: true}))
		if err != nil {
			return false, err.Error()
		}
		defer stream.Close()
		for stream.Receive() {
			if report := stream.Msg().GetReport(); report != nil {
				return report.Error == "" && len(report.Refusals) == 0, fmt.Sprint(report.Error, report.Refusals)
			}
		}
		return false, fmt.Sprint(stream.Err())
	})
}

// until waits for something to come about, and says what did not.
func until(ctx context.Context, what string, ready func() (bool, string)) error {
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	for {
		ok, seen := ready()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come about: %w; last seen: %s", what, context.Cause(ctx), seen)
		case <-time.After(lookAgain):
		}
	}
}
