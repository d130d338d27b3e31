package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/network"
	"drydock/pods/sidecar"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"
)

// ShimVolume is the directory on this host of what a pod's shim has.
func (r *Runtime) ShimVolume(pod string) string { return r.volumeDir(pod, sidecar.Name) }

// AddContainer makes a container that a pod's record has got, beside those that run, and starts it. It may be called again.
func (r *Runtime) AddContainer(ctx context.Context, rec *Record, name string) error {
	for i, c := range rec.Spec.Containers {
		if c.Name != name {
			continue
		}
		if err := os.MkdirAll(r.ShimVolume(rec.Spec.Name), 0o755); err != nil {
			return fmt.Errorf("volume of the shim of pod %s: %w", rec.Spec.Name, err)
		}
		if err := r.createContainer(ctx, rec, i, nil); err != nil {
			return err
		}
		return r.StartContainer(ctx, rec.Spec.Name, name)
	}
	return fmt.Errorf("pod %s has no container %s", rec.Spec.Name, name)
}

// RemoveContainer ends a container of a pod and removes all of it, and then takes it out of the record. The others run on. It may be
// called again.
func (r *Runtime) RemoveContainer(ctx context.Context, rec *Record, name string) error {
	pod := rec.Spec.Name
	if err := cgroupAt(r.containerCgroup(pod, name)).killAll(ctx); err != nil {
		return err
	}
	if err := r.deleteTask(ctx, pod, name); err != nil {
		return err
	}
	if err := r.deleteContainer(ctx, pod, name); err != nil {
		return err
	}
	sidecar.Remove(rec.Spec, name)
	delete(rec.Restarts, name)
	if err := r.Save(rec); err != nil {
		return err
	}
	if err := os.Remove(r.logFile(pod, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return removeCgroup(r.containerCgroup(pod, name))
}

// Steer leads new connections to the ports of a pod's program to its shim, whose processes may be stopped; where the pod has no shim
// that wants them they reach the program. It may be called again, and must be where the shim has made its sockets anew. The error is
// ErrNotListening where it has not yet.
func (r *Runtime) Steer(ctx context.Context, pod string) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	return r.SteerAs(ctx, rec)
}

// SteerAs is Steer for a caller that has the pod's record at hand.
func (r *Runtime) SteerAs(ctx context.Context, rec *Record) (err error) {
	pod, wanted := rec.Spec.Name, sidecar.Steer(rec.Spec)
	if len(wanted) == 0 {
		return r.net.EndSteer(ctx, pod)
	}
	net, err := r.Network(ctx, pod)
	if err != nil {
		return err
	}
	pids, err := r.shimProcesses(rec)
	if err != nil {
		return err
	}
	var ports []network.Steered
	defer func() {
		for _, p := range ports {
			err = errors.Join(err, unix.Close(p.Socket))
		}
	}()
	for _, s := range wanted {
		socket, err := listening(pids, s.At, s.IPv6)
		if err != nil {
			return fmt.Errorf("shim of pod %s: %w", pod, err)
		}
		ports = append(ports, network.Steered{Port: s.Port, Socket: socket, IPv6: s.IPv6})
	}
	return net.Steer(ctx, ports)
}

// shimStarts is how long a shim may take until it listens: it runs its record's examples first, and translates its modules.
const shimStarts = 30 * time.Second

// AwaitShim waits until a pod's newest shim listens, and leads connections to it.
func (r *Runtime) AwaitShim(ctx context.Context, rec *Record) error {
	names := sidecar.In(rec.Spec)
	if rec.Spec.Shim == nil || len(names) == 0 {
		return nil
	}
	pod, name := rec.Spec.Name, names[len(names)-1]
	ctx, cancel := context.WithTimeout(ctx, shimStarts)
	defer cancel()
	for {
		err := r.Steer(ctx, pod)
		if !errors.Is(err, ErrNotListening) {
			return err
		}
		status, serr := r.containerStatus(ctx, pod, name)
		if serr == nil && status.State == string(containerd.Stopped) {
			var said bytes.Buffer
			_ = r.Logs(ctx, pod, name, 5, false, &said) // what it said is only for the error
			return fmt.Errorf("shim of pod %s ended with status %d: %s", pod, status.ExitCode, strings.TrimSpace(said.String()))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w within %s", err, shimStarts)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *Runtime) shimProcesses(rec *Record) ([]int, error) {
	processes, err := r.processes(rec)
	var pids []int
	for _, name := range sidecar.In(rec.Spec) {
		pids = append(processes[name], pids...) // the newest first
	}
	return pids, err
}

// Steers tells whether connections to a pod are led to its shim.
func (r *Runtime) Steers(pod string) bool { return r.net.Steers(pod) }

// ImportShim makes an image of this program where the host does not have it, and returns its name and digest.
func (r *Runtime) ImportShim(ctx context.Context, program, version string) (reference, digest string, err error) {
	img, err := sidecar.NewImage(program)
	if err != nil {
		return "", "", err
	}
	reference, digest = sidecar.Reference(version), img.Digest()
	if r.HasImage(ctx, digest) {
		return reference, digest, nil
	}
	archive, w := io.Pipe()
	go func() { w.CloseWithError(img.Write(w, reference)) }()
	imported, err := r.Import(ctx, archive, reference)
	_ = archive.Close() // an import that gave up has read it to no end
	if err != nil {
		return "", "", fmt.Errorf("image of the shim: %w", err)
	}
	if len(imported) != 1 || imported[0].Digest != digest {
		return "", "", fmt.Errorf("image of the shim: imported as %v, not as %s", imported, digest)
	}
	return reference, digest, nil
}

// startShim has a pod's shim listen before anybody can reach the pod: no call is to come to the program unseen.
func (r *Runtime) startShim(ctx context.Context, rec *Record) error {
	if rec.Spec.Shim == nil {
		return nil
	}
	for _, name := range sidecar.In(rec.Spec) {
		if err := r.StartContainer(ctx, rec.Spec.Name, name); err != nil {
			return err
		}
	}
	return r.AwaitShim(ctx, rec)
}

// writeShim gives a pod that is made its shim's configuration.
func (r *Runtime) writeShim(pod *drydockv1.PodSpec) error {
	if pod.GetShim() == nil {
		return nil
	}
	volume := r.ShimVolume(pod.GetName())
	if _, err := sidecar.WriteRecord(volume, pod); err != nil {
		return err
	}
	return sidecar.Write(volume, pod)
}
