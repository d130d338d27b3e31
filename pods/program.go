package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/network"
	"drydock/pods/sidecar"
	"drydock/pods/spec"

	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
)

// endWithin is how long it may take to remove a program's container.
const endWithin = 20 * time.Second

// programID names the container of a transform's program. Those of pods have one dot.
func programID(pod string) string { return pod + ".transform.program" }

func (r *Runtime) programDir(pod string) string {
	return filepath.Join(r.cfg.RunDir, "transform", pod)
}

// runProgram runs a transform's program to its end: with the container's image, user, limits and restrictions, the volumes
// that lie in a directory, and neither network nor anything else of the pod.
func (r *Runtime) runProgram(ctx context.Context, t Transform, volumes string) (err error) {
	ctx, cancel := context.WithTimeout(r.context(ctx), t.Timeout)
	defer cancel()
	pod := t.Spec.GetName()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
		defer cancel()
		err = errors.Join(err, r.endProgram(ctx, pod))
	}()
	container, err := r.makeProgram(ctx, t, volumes)
	if err != nil {
		return fmt.Errorf("make the container of %s: %w", t.Command[0], err)
	}
	log := filepath.Join(filepath.Dir(volumes), "output")
	task, err := newTask(ctx, container, log)
	if err != nil {
		return fmt.Errorf("run %s: %w", t.Command[0], err)
	}
	exited, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("run %s: %w", t.Command[0], err)
	}
	select {
	case status := <-exited:
		if status.Error() != nil {
			return status.Error()
		}
		if status.ExitCode() != 0 {
			return fmt.Errorf("%s ended with status %d: %s", t.Command[0], status.ExitCode(), lastLines(log))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended in %s: %s", t.Command[0], t.Timeout, lastLines(log))
	}
}

// makeProgram makes the program's container, with a network namespace that leads nowhere.
func (r *Runtime) makeProgram(ctx context.Context, t Transform, volumes string) (containerd.Container, error) {
	pod, index, err := programSpec(t)
	if err != nil {
		return nil, err
	}
	image, err := r.image(ctx, pod.Containers[index].ImageDigest)
	if err != nil {
		return nil, err
	}
	config, err := image.Spec(ctx)
	if err != nil {
		return nil, err
	}
	dir := r.programDir(pod.Name)
	if err := errors.Join(r.makeEmpty(), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"hosts": "127.0.0.1 localhost\n::1 localhost\n", "hostname": hostname(pod) + "\n", "resolv.conf": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := network.MakeAlone(filepath.Join(dir, "netns")); err != nil {
		return nil, err
	}
	in := spec.Input{
		Pod: pod, Container: index, Image: config.Config, NetNS: filepath.Join(dir, "netns"),
		Cgroup: filepath.Join(r.podCgroup(pod.Name), "transform"), Cgroup2: CgroupVersion() == 2,
		Hosts: filepath.Join(dir, "hosts"), Hostname: filepath.Join(dir, "hostname"), ResolvConf: filepath.Join(dir, "resolv.conf"),
		Empty: filepath.Join(r.cfg.DataDir, "empty"), CRIUConfig: filepath.Join(dir, "criu.conf"),
	}
	if in.Volumes, err = programVolumes(pod, volumes); err != nil {
		return nil, err
	}
	id := programID(pod.Name)
	return r.client.NewContainer(ctx, id, containerd.WithImage(image), containerd.WithSnapshotter(snapshotter),
		containerd.WithNewSnapshot(id, image), containerd.WithContainerLabels(map[string]string{podLabel: pod.Name}),
		containerd.WithRuntime(shim, &options.Options{}), r.withProgram(in))
}

// programVolumes are where the pod's volumes lie below a directory. One that comes with the upgrade is made.
func programVolumes(pod *drydockv1.PodSpec, below string) (map[string]string, error) {
	dirs := make(map[string]string)
	for _, v := range pod.Volumes {
		dirs[v.Name] = filepath.Join(below, v.Name)
		if err := os.MkdirAll(dirs[v.Name], 0o755); err != nil {
			return nil, err
		}
		if v.Name != sidecar.Name {
			continue
		}
		if err := sidecar.ShowKept(dirs[v.Name]); err != nil {
			return nil, fmt.Errorf("what the shim has kept: %w", err)
		}
	}
	return dirs, nil
}

func (r *Runtime) withProgram(in spec.Input) containerd.NewContainerOpts {
	return func(ctx context.Context, client *containerd.Client, c *containers.Container) error {
		mounts, err := client.SnapshotService(snapshotter).Mounts(ctx, c.SnapshotKey)
		if err != nil {
			return err
		}
		return mount.WithReadonlyTempMount(ctx, mounts, func(root string) error {
			in.RootFS = root
			built, err := spec.Build(ctx, in)
			if err != nil {
				return err
			}
			return containerd.WithSpec(built)(ctx, client, c)
		})
	}
}

// keptPath is where a program finds what the pod's shim has kept.
const keptPath = "/drydock/kept"

// programSpec is the pod as the program sees it: its local volumes, and the container with another command.
func programSpec(t Transform) (*drydockv1.PodSpec, int, error) {
	pod := proto.CloneOf(t.Spec)
	local := make(map[string]bool)
	var volumes []*drydockv1.Volume
	for _, v := range pod.Volumes {
		if v.GetLocal() != nil {
			local[v.Name] = true
			volumes = append(volumes, v)
		}
	}
	pod.Volumes = volumes
	for i, c := range pod.Containers {
		if c.Name != t.Container {
			continue
		}
		var mounts []*drydockv1.VolumeMount
		for _, m := range c.Mounts {
			if local[m.Volume] {
				mounts = append(mounts, m)
			}
		}
		if local[sidecar.Name] {
			mounts = append(mounts, &drydockv1.VolumeMount{Volume: sidecar.Name, Path: keptPath, SubPath: sidecar.Kept})
		}
		c.Mounts, c.Command, c.Args = mounts, t.Command, nil
		return pod, i, nil
	}
	return nil, 0, fmt.Errorf("pod %s has no container %s", pod.Name, t.Container)
}

// endProgram kills a transform's program, if it runs, and removes what was made for it.
func (r *Runtime) endProgram(ctx context.Context, pod string) error {
	ctx = r.context(ctx)
	c, err := r.client.LoadContainer(ctx, programID(pod))
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("program of pod %s: %w", pod, err)
	default:
		if task, err := c.Task(ctx, nil); err == nil {
			if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("end the program of pod %s: %w", pod, err)
			}
		}
		if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove the program of pod %s: %w", pod, err)
		}
	}
	if err := network.RemoveAlone(filepath.Join(r.programDir(pod), "netns")); err != nil {
		return err
	}
	return removeTree(r.programDir(pod))
}

// saidAtMost is how much of what a program wrote goes into an error.
const saidAtMost = 512

func lastLines(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > saidAtMost {
		if _, err := file.Seek(-saidAtMost, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	data, err := io.ReadAll(io.LimitReader(file, saidAtMost))
	if err != nil {
		return err.Error()
	}
	if len(data) == 0 {
		return "it said nothing"
	}
	return strings.Join(strings.Fields(string(data)), " ")
}
