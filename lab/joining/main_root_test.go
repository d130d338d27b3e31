//go:build root

package joining

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/clictx"
	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/rig"
)

// limit is how long anything may take before it counts as never happening. It is no promise about speed.
const limit = 3 * time.Minute

// binary is the program that the labs' hosts run.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "drydock-joining-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "drydock")
		err = os.Setenv(clictx.EnvFile, filepath.Join(dir, "contexts.yaml"))
	}
	if err == nil {
		build := exec.Command("go", "build", "-o", binary, "drydock/cmd/drydock")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, berr := build.CombinedOutput(); berr != nil {
			err = fmt.Errorf("%w\n%s", berr, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build drydock:", err)
		return 1
	}
	return m.Run()
}

// secured brings a lab up behind a switch with port security, with a Redis on h1.
func secured(t *testing.T, hosts int, network string) *rig.Rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := rig.Up(ctx, lab.Options{Name: "joining", Hosts: hosts, Binary: binary, PortSecurity: true, Network: network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := r.ImportImages(ctx, "h1", t.Output(), images.Redis); err != nil {
		t.Fatal(err)
	}
	return r
}

func runRedis(t *testing.T, r *rig.Rig) *drydockv1.Pod {
	t.Helper()
	pod, err := r.Run(t.Context(), &drydockv1.PodSpec{
		Name: "cache", RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER, AllowPostcopy: true,
		Containers: []*drydockv1.Container{{Name: "redis", Image: images.Redis}},
	}, "h1")
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func host(t *testing.T, r *rig.Rig, name string) *drydockv1.Host {
	t.Helper()
	res, err := r.GetHost(t.Context(), connect.NewRequest(&drydockv1.GetHostRequest{Name: name}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.Host
}

// linked tells whether a host's network to all others is in the given state.
func linked(h *drydockv1.Host, state string) bool {
	return len(h.Links) > 0 && !slices.ContainsFunc(h.Links, func(l *drydockv1.HostLink) bool { return l.State != state })
}

// in runs a command on a node of the lab.
func in(t *testing.T, r *rig.Rig, node string, argv ...string) {
	t.Helper()
	if out, err := r.Exec(t.Context(), node, argv...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %v\n%s", node, argv, err, out)
	}
}
