//go:build vm

package real

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/rig"
)

var (
	program = flag.String("drydock", "../../build/drydock", "the program, with its package beside it")
	name    = flag.String("lab", "real", "the lab's name")
)

const (
	pod       = "cache"
	redisPort = 6379
)

// scene is a lab of two machines, with a Redis that is written to from outside.
type scene struct {
	*rig.Rig
	writers *load.RedisWriters
}

// The machines are brought up once, and what is tried with them is tried in this order.
func TestPodsLiveOnVirtualMachines(t *testing.T) {
	s := newScene(t, lab.Updates{})
	t.Run("a pod moves to another kernel and back with its connections", s.moves)
	t.Run("an agent that is killed in a round of pre-copy leaves one copy and nothing else", s.roundsBreak)
	t.Run("an upgrade of the package restarts the agent and no pod", s.upgrades)
	t.Run("no write was lost", s.checks)
	t.Run("an empty host reboots for real and comes back", s.reboots)
	t.Run("a host whose power was cut comes back", s.powerCut)
	t.Run("nothing is left when the lab is down", s.leavesNothing)
}

func newScene(t *testing.T, updates lab.Updates) *scene {
	t.Helper()
	up, err := rig.Up(t.Context(), lab.Options{
		Name: *name, Hosts: 2, Driver: lab.DriverVM, Binary: *program, Updates: updates, Progress: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Down(context.Background(), *name); err != nil {
			t.Error(err)
		}
	})
	if err := up.ImportImages(t.Context(), "h1", os.Stderr, images.Redis); err != nil {
		t.Fatal(err)
	}
	made, err := up.Run(t.Context(), &drydockv1.PodSpec{
		Name: pod, RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER,
		Containers: []*drydockv1.Container{{Name: "redis", Image: images.Redis}},
	}, "h1")
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{Rig: up}
	s.startWriters(t, made)
	return s
}

func (s *scene) startWriters(t *testing.T, made *drydockv1.Pod) {
	t.Helper()
	host, _, _ := strings.Cut(made.GetSpec().GetAddresses()[0], "/")
	config := load.RedisConfig{
		Dialer: load.Dialer{Netns: s.NetNS(lab.ClientNode)}, Addr: fmt.Sprint(host, ":", redisPort), Connections: 2, Rate: 20,
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		var err error
		if s.writers, err = load.StartRedisWriters(ctx, config); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *scene) moves(t *testing.T) {
	for _, move := range []struct {
		to   string
		mode drydockv1.MigrationMode
	}{
		{"h2", drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY},
		{"h1", drydockv1.MigrationMode_MIGRATION_MODE_STOP},
	} {
		report, err := s.Move(t.Context(), pod, move.to, move.mode, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("to %s: %s, freeze %v, %d bytes", move.to, rig.ModeName(report.Mode), report.Freeze.AsDuration(), report.Bytes)
	}
}

// upgrades installs a package over the one that is there; dpkg treats another version of it in the same way.
func (s *scene) upgrades(t *testing.T) {
	before, agent := s.in(t, "h1", "pgrep", "redis-server"), s.in(t, "h1", "systemctl", "show", "-P", "MainPID", "drydock-agent")
	cmd := s.Exec(t.Context(), "h1", "sh", "-c", "cat >/root/next.deb && dpkg --force-confold --install /root/next.deb")
	deb, err := os.Open(packagePath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer deb.Close()
	cmd.Stdin = deb
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("upgrade: %v\n%s", err, out)
	}
	if now := s.in(t, "h1", "systemctl", "show", "-P", "MainPID", "drydock-agent"); now == agent || now == "0" {
		t.Errorf("the agent was process %s and is %s", agent, now)
	}
	if diff := cmp.Diff(before, s.in(t, "h1", "pgrep", "redis-server")); diff != "" {
		t.Errorf("the pod's process is another one:\n%s", diff)
	}
	s.ready(t)
}

func packagePath(t *testing.T) string {
	t.Helper()
	path, err := lab.Options{Binary: *program}.FindPackage()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *scene) checks(t *testing.T) {
	if s.writers.Acked() == 0 {
		t.Error("no write was acknowledged at all")
	}
	found, err := s.writers.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !found.Flawless() {
		t.Errorf("%+v", found)
	}
}

func (s *scene) reboots(t *testing.T) {
	before := s.in(t, "h2", "cat", "/proc/sys/kernel/random/boot_id")
	if err := s.RebootHost(t.Context(), "h2"); err != nil {
		t.Fatal(err)
	}
	if after := s.in(t, "h2", "cat", "/proc/sys/kernel/random/boot_id"); after == before {
		t.Errorf("the boot id is %s as before", after)
	}
	s.ready(t)
}

func (s *scene) powerCut(t *testing.T) {
	if err := s.KillHost(t.Context(), "h2"); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Exec(t.Context(), "h2", "true").CombinedOutput(); err == nil {
		t.Errorf("a host without power ran a command: %s", out)
	}
	if err := s.StartHost(t.Context(), "h2"); err != nil {
		t.Fatal(err)
	}
	s.ready(t)
}

func (s *scene) leavesNothing(t *testing.T) {
	status, err := s.Status()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Down(t.Context(), *name); err != nil {
		t.Fatal(err)
	}
	for _, host := range status.Hosts {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", host.PID)); err == nil && len(line) > 0 {
			t.Errorf("process %d of host %s still runs: %s", host.PID, host.Name, line)
		}
	}
	names, err := lab.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range names {
		if left == *name {
			t.Errorf("lab %s is still listed", left)
		}
	}
}

// ready waits until the controller finds every host ready again.
func (s *scene) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := rig.Ready(ctx, s.Lab, s.Hosts()); err != nil {
		t.Fatal(err)
	}
	list, err := s.ListHosts(ctx, connect.NewRequest(&drydockv1.ListHostsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range list.Msg.Hosts {
		if h.State != "ready" {
			t.Errorf("host %s is %s: %s", h.Name, h.State, h.Message)
		}
	}
}

// in runs a command on a host and returns what it says.
func (s *scene) in(t *testing.T, host string, argv ...string) string {
	t.Helper()
	out, err := s.Exec(t.Context(), host, argv...).Output()
	if err != nil {
		t.Fatalf("%s on %s: %v", strings.Join(argv, " "), host, err)
	}
	return strings.TrimSpace(string(out))
}
