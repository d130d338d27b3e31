// Package probe proves that this host can dump and restore a pod, by doing it: a small container with threads, a timer, a pipe,
// connections over TCP and a Unix socket is dumped and restored here, through runc and CRIU with the specification and the options of
// every pod, and looks whether all of it is as it was. What CRIU says of itself is not asked.
package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods"
	"drydock/pods/network"
	"drydock/pods/spec"

	"github.com/moby/sys/mountinfo"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Probe dumps and restores on the host that it runs on. It may be asked by several at once.
type Probe struct {
	// Dir is the probe's own, and must lie in memory: it holds CRIU's images.
	Dir string
	// Cgroup is the one that its container is put into, below the hierarchies' roots.
	Cgroup string
	// Program is this program: the container runs it with the arguments that Args has, and it must call Main.
	Program string
	Args    []string
	// Within is how long it may take; 0: a minute.
	Within time.Duration

	mu sync.Mutex
}

const (
	id = "drydock-probe"
	// within is how long a probe may take.
	within = time.Minute
	// lookEvery is how often the container's word is looked for.
	lookEvery = 20 * time.Millisecond
)

// Run returns nil where a container was restored as it was, and else what went wrong. Nothing of it is left in either case.
func (p *Probe) Run(ctx context.Context) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := p.Within
	if limit == 0 {
		limit = within
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := p.clean(); err != nil {
		return fmt.Errorf("what an earlier probe left: %w", err)
	}
	defer func() { err = errors.Join(err, p.clean()) }()
	if err := p.bundle(ctx); err != nil {
		return fmt.Errorf("make the probe's container: %w", err)
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"start it", p.start}, {"dump it", p.dump}, {"restore it", p.restore}, {"find it as it was", p.compare},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (p *Probe) path(name string) string { return filepath.Join(p.Dir, name) }

// bundle makes what runc needs: a root that holds nothing but this program, and a network of its own.
func (p *Probe) bundle(ctx context.Context) error {
	for _, dir := range []string{"rootfs", "empty", "images", "dump", "restore", "state"} {
		if err := os.MkdirAll(p.path(dir), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"hosts": "127.0.0.1 localhost\n", "hostname": "probe\n", "resolv.conf": ""} {
		if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := network.MakeAlone(p.path("netns")); err != nil {
		return err
	}
	const program = "/program"
	s, err := spec.Build(ctx, spec.Input{
		Pod:   &drydockv1.PodSpec{Name: "probe", Containers: []*drydockv1.Container{{Name: "main"}}},
		Image: ocispec.ImageConfig{Entrypoint: append([]string{program}, p.Args...)}, RootFS: p.path("rootfs"), NetNS: p.path("netns"),
		Cgroup: p.Cgroup, Cgroup2: pods.CgroupVersion() == 2, Hosts: p.path("hosts"), Hostname: p.path("hostname"),
		ResolvConf: p.path("resolv.conf"), Empty: p.path("empty"), CRIUConfig: p.path("criu.conf"),
	})
	if err != nil {
		return err
	}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: program, Type: "bind", Source: p.Program, Options: []string{"bind", "ro"}})
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(p.path("config.json"), data, 0o600)
}

func (p *Probe) start(ctx context.Context) error {
	if err := p.runc(ctx, "", "run", "--detach", "--bundle", p.Dir, id); err != nil {
		return err
	}
	return p.hear(ctx, ready)
}

func (p *Probe) dump(ctx context.Context) error {
	if err := os.WriteFile(p.path("criu.conf"), []byte(pods.DumpOptions), 0o600); err != nil {
		return err
	}
	return p.runc(ctx, p.path("dump/dump.log"), "checkpoint", "--tcp-established", "--file-locks",
		"--image-path", p.path("images"), "--work-path", p.path("dump"), id)
}

func (p *Probe) restore(ctx context.Context) error {
	if err := os.WriteFile(p.path("criu.conf"), []byte(pods.RestoreOptions), 0o600); err != nil {
		return err
	}
	return p.runc(ctx, p.path("restore/restore.log"), "restore", "--detach", "--tcp-established", "--file-locks", "--bundle", p.Dir,
		"--image-path", p.path("images"), "--work-path", p.path("restore"), id)
}

// compare has the restored container look at itself.
func (p *Probe) compare(ctx context.Context) error {
	if err := os.WriteFile(p.path("rootfs"+question), nil, 0o644); err != nil {
		return err
	}
	return p.hear(ctx, whole)
}

// runc runs runc. What CRIU wrote to its log says more of a failure than runc does.
func (p *Probe) runc(ctx context.Context, log string, args ...string) error {
	out, err := os.Create(p.path("runc.out"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "runc", append([]string{"--root", p.path("state")}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	if args[0] == "run" || args[0] == "restore" {
		cmd.Stdout, cmd.Stderr = nil, nil // they become the container's
	}
	if err = cmd.Run(); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	said, _ := os.ReadFile(out.Name())
	err = fmt.Errorf("runc %s: %w: %s", args[0], err, strings.Join(strings.Split(strings.TrimSpace(string(said)), "\n"), "; "))
	if log == "" {
		return err
	}
	return pods.CRIUSaid(log, err)
}

// hear waits until the container has said a word. Any other is an error.
func (p *Probe) hear(ctx context.Context, word string) error {
	for {
		said, err := os.ReadFile(p.path("rootfs" + answer))
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case string(said) == word:
			return nil
		case err == nil && string(said) != ready:
			return errors.New(string(said))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the probe's container said nothing: %w", ctx.Err())
		case <-time.After(lookEvery):
		}
	}
}

// cleanWithin is how long runc may take to remove a container.
const cleanWithin = 20 * time.Second

// clean removes the container and all that was made for it.
func (p *Probe) clean() error {
	if _, err := os.Stat(p.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// A restore that was killed leaves the container's root bound in runc's directory, or its mounts bound in the root. What follows
	// would remove through them.
	if err := p.unmount(); err != nil {
		return err
	}
	if _, err := os.Stat(p.path("state/" + id)); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), cleanWithin)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "runc", "--root", p.path("state"), "delete", "--force", id).CombinedOutput(); err != nil {
			return fmt.Errorf("remove the probe's container: %w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	if err := network.RemoveAlone(p.path("netns")); err != nil {
		return err
	}
	return os.RemoveAll(p.Dir)
}

// unmount takes away all that is mounted below the probe's directory, the last first.
func (p *Probe) unmount() error {
	mounted, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, p.Dir+"/"), false
	})
	if err != nil {
		return fmt.Errorf("read the mounts below %s: %w", p.Dir, err)
	}
	for _, m := range slices.Backward(mounted) {
		err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unmount %s, which an earlier probe left: %w", m.Mountpoint, err)
		}
	}
	return nil
}
