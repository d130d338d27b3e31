package pods

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/network"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Create makes everything that a pod needs, without running any of it: record, volumes, network (unplugged) and containers.
// What exists already is kept, so an interrupted Create is finished by calling it again. specs, by container, are those of a
// pod that was made on another host; nil makes new ones.
func (r *Runtime) Create(ctx context.Context, rec *Record, specs map[string][]byte) error {
	if err := errors.Join(r.makeEmpty(), r.Save(rec)); err != nil {
		return err
	}
	pod := rec.Spec
	if err := r.writeEtc(pod); err != nil {
		return err
	}
	for _, v := range pod.Volumes {
		if v.GetLocal() == nil {
			continue
		}
		if err := os.MkdirAll(r.volumeDir(pod.Name, v.Name), 0o755); err != nil {
			return fmt.Errorf("volume %s of pod %s: %w", v.Name, pod.Name, err)
		}
	}
	if err := r.writeShim(pod); err != nil {
		return err
	}
	cfg, err := networkConfig(pod, r.bridge())
	if err != nil {
		return err
	}
	if _, err := r.net.Create(ctx, cfg); err != nil {
		return fmt.Errorf("network of pod %s: %w", pod.Name, err)
	}
	for i, c := range pod.Containers {
		given, err := decodeSpec(specs[c.Name])
		if err != nil {
			return fmt.Errorf("container %s of pod %s: %w", c.Name, pod.Name, err)
		}
		if err := r.createContainer(ctx, rec, i, given); err != nil {
			return err
		}
	}
	return nil
}

// Start runs every container of the pod that has no running task, and plugs the pod in.
func (r *Runtime) Start(ctx context.Context, pod string) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	if rec.Role != Owned {
		return fmt.Errorf("pod %s is being received by migration %s: it is not started here", pod, rec.Migration)
	}
	if err := r.startShim(ctx, rec); err != nil {
		return err
	}
	if err := r.PlugIn(ctx, pod); err != nil {
		return err
	}
	for _, c := range rec.Spec.Containers {
		if err := r.StartContainer(ctx, pod, c.Name); err != nil {
			return err
		}
	}
	return nil
}

// StartContainer runs one container anew, where it does not run already.
func (r *Runtime) StartContainer(ctx context.Context, pod, container string) error {
	task, err := r.task(ctx, pod, container)
	ctx = r.context(ctx)
	if err == nil {
		status, err := task.Status(ctx)
		if err != nil {
			return fmt.Errorf("container %s of pod %s: %w", container, pod, err)
		}
		if status.Status == containerd.Running || status.Status == containerd.Paused {
			return nil
		}
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("container %s of pod %s: %w", container, pod, err)
		}
	} else if !errors.Is(err, errNoTask) {
		return err
	}
	c, err := r.client.LoadContainer(ctx, containerID(pod, container))
	if err != nil {
		return fmt.Errorf("container %s of pod %s: %w", container, pod, err)
	}
	log := r.logFile(pod, container)
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		return err
	}
	if err := noteStarted(ctx, c, time.Now()); err != nil {
		return fmt.Errorf("container %s of pod %s: %w", container, pod, err)
	}
	task, err = newTask(ctx, c, log)
	if err != nil {
		return fmt.Errorf("container %s of pod %s: %w", container, pod, err)
	}
	if err := task.Start(ctx); err != nil {
		_, _ = task.Delete(ctx, containerd.WithProcessKill)
		return fmt.Errorf("start container %s of pod %s: %w", container, pod, err)
	}
	return nil
}

// Stop asks every container to end, waits for at most grace, and then kills. The pod keeps its files and network.
func (r *Runtime) Stop(ctx context.Context, pod string, grace time.Duration) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	if err := r.Thaw(ctx, pod); err != nil {
		return err
	}
	ctx = r.context(ctx)
	deadline := time.Now().Add(grace)
	for i := len(rec.Spec.Containers) - 1; i >= 0; i-- {
		task, err := r.task(ctx, pod, rec.Spec.Containers[i].Name)
		if errors.Is(err, errNoTask) {
			continue
		}
		if err != nil {
			return err
		}
		exited, err := task.Wait(ctx)
		if err != nil {
			return err
		}
		if err := task.Kill(ctx, r.stopSignal(ctx, task)); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("stop container %s of pod %s: %w", rec.Spec.Containers[i].Name, pod, err)
		}
		select {
		case <-exited:
		case <-time.After(time.Until(deadline)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.Kill(ctx, pod)
}

// stopSignal is the one that the image asks for.
func (r *Runtime) stopSignal(ctx context.Context, task containerd.Task) syscall.Signal {
	c, err := r.client.LoadContainer(ctx, task.ID())
	if err != nil {
		return syscall.SIGTERM
	}
	labels, err := c.Labels(ctx)
	if err != nil {
		return syscall.SIGTERM
	}
	if signal := unix.SignalNum(labels[stopSignalLabel]); signal != 0 {
		return signal
	}
	return syscall.SIGTERM
}

// Remove takes away everything of a pod on this host. Safe to call again, and for a pod that is not here.
func (r *Runtime) Remove(ctx context.Context, pod string) error {
	rec, err := r.Record(pod)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.Kill(ctx, pod); err != nil {
		return err
	}
	for _, c := range rec.Spec.Containers {
		if err := r.deleteContainer(ctx, pod, c.Name); err != nil {
			return err
		}
		if err := r.removeRestoreRoot(pod, c.Name); err != nil {
			return err
		}
	}
	if err := r.dropTransform(ctx, pod); err != nil {
		return err
	}
	if err := r.net.Remove(ctx, pod); err != nil {
		return fmt.Errorf("network of pod %s: %w", pod, err)
	}
	if err := removeCgroup(r.podCgroup(pod)); err != nil {
		return err
	}
	for _, dir := range []string{r.volumesDir(pod), r.podDir(pod)} {
		if err := removeTree(dir); err != nil {
			return fmt.Errorf("remove the files of pod %s: %w", pod, err)
		}
	}
	return nil
}

func (r *Runtime) deleteContainer(ctx context.Context, pod, container string) error {
	ctx = r.context(ctx)
	_ = os.Remove(criuConfig(pod, container))
	c, err := r.client.LoadContainer(ctx, containerID(pod, container))
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete container %s of pod %s: %w", container, pod, err)
	}
	return nil
}

// PlugIn connects the pod's network to what pods hang on here and tells the neighbours.
func (r *Runtime) PlugIn(ctx context.Context, pod string) error {
	net, err := r.Network(ctx, pod)
	if err != nil {
		return err
	}
	if err := net.Hang(r.bridge()); err != nil {
		return err
	}
	return net.PlugIn(ctx)
}

// Unplug takes the pod off its host's bridge: from then on no frame of it leaves and none reaches it.
func (r *Runtime) Unplug(ctx context.Context, pod string) error {
	net, err := r.Network(ctx, pod)
	if err != nil {
		return err
	}
	return net.Unplug(ctx)
}

// SweepNetwork removes what a holding of packets left that ended with its process.
func (r *Runtime) SweepNetwork(ctx context.Context, pod string) error { return r.net.Sweep(ctx, pod) }

// Network is the pod's network on this host.
func (r *Runtime) Network(ctx context.Context, pod string) (*network.Network, error) {
	return r.net.Open(ctx, pod)
}

func networkConfig(pod *drydockv1.PodSpec, bridge string) (network.Config, error) {
	cfg := network.Config{Pod: pod.Name, Bridge: bridge, MTU: int(pod.Mtu)}
	for _, address := range pod.Addresses {
		prefix, err := netip.ParsePrefix(address)
		if err != nil {
			return cfg, fmt.Errorf("address of pod %s: %w", pod.Name, err)
		}
		cfg.Addresses = append(cfg.Addresses, prefix)
	}
	var err error
	if cfg.MAC, err = net.ParseMAC(pod.Mac); err != nil {
		return cfg, fmt.Errorf("MAC of pod %s: %w", pod.Name, err)
	}
	if pod.Gateway != "" {
		if cfg.Gateway, err = netip.ParseAddr(pod.Gateway); err != nil {
			return cfg, fmt.Errorf("gateway of pod %s: %w", pod.Name, err)
		}
	}
	return cfg, nil
}

// removeTree removes a directory that is ours, and refuses where something is mounted below it.
func removeTree(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s holds mounts (%v): unmount them first", dir, mounts)
	}
	return os.RemoveAll(dir)
}
