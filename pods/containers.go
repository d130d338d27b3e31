package pods

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/spec"

	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	podLabel        = "drydock/pod"
	containerLabel  = "drydock/container"
	stopSignalLabel = "drydock/stop-signal"

	shim = "io.containerd.runc.v2"
)

// createContainer makes a container with its writable layer, without a task. One that exists is kept.
func (r *Runtime) createContainer(ctx context.Context, rec *Record, index int, given *specs.Spec) error {
	ctx = r.context(ctx)
	pod, c := rec.Spec, rec.Spec.Containers[index]
	id := containerID(pod.Name, c.Name)
	if _, err := r.client.LoadContainer(ctx, id); err == nil {
		return nil
	} else if !errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s of pod %s: %w", c.Name, pod.Name, err)
	}
	image, err := r.image(ctx, c.ImageDigest)
	if err != nil {
		return fmt.Errorf("container %s of pod %s: %w", c.Name, pod.Name, err)
	}
	config, err := image.Spec(ctx)
	if err != nil {
		return fmt.Errorf("configuration of image %s: %w", c.Image, err)
	}
	// A layer without a container was left by a crash between the two.
	if err := r.client.SnapshotService(snapshotter).Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s of pod %s: old layer: %w", c.Name, pod.Name, err)
	}
	options := []containerd.NewContainerOpts{
		containerd.WithImage(image),
		containerd.WithSnapshotter(snapshotter),
		containerd.WithNewSnapshot(id, image),
		containerd.WithContainerLabels(map[string]string{
			podLabel: pod.Name, containerLabel: c.Name, stopSignalLabel: config.Config.StopSignal,
		}),
		containerd.WithRuntime(shim, &options.Options{}),
		r.withSpec(rec, index, config.Config, given),
	}
	if _, err := r.client.NewContainer(ctx, id, options...); err != nil {
		return fmt.Errorf("container %s of pod %s: %w", c.Name, pod.Name, err)
	}
	return nil
}

// withSpec builds the container's specification, or takes the given one and gives it this host's paths.
func (r *Runtime) withSpec(rec *Record, index int, image ocispec.ImageConfig, given *specs.Spec) containerd.NewContainerOpts {
	return func(ctx context.Context, client *containerd.Client, c *containers.Container) error {
		built := given
		if given != nil {
			r.adapt(given, rec.Spec, rec.Spec.Containers[index].Name)
		} else {
			mounts, err := client.SnapshotService(snapshotter).Mounts(ctx, c.SnapshotKey)
			if err != nil {
				return err
			}
			err = mount.WithReadonlyTempMount(ctx, mounts, func(root string) (err error) {
				if err := r.ownVolumes(rec.Spec, rec.Spec.Containers[index], root); err != nil {
					return err
				}
				built, err = spec.Build(ctx, r.specInput(rec, index, image, root))
				return err
			})
			if err != nil {
				return err
			}
		}
		return containerd.WithSpec(built)(ctx, client, c)
	}
}

func (r *Runtime) specInput(rec *Record, index int, image ocispec.ImageConfig, root string) spec.Input {
	pod := rec.Spec
	volumes := make(map[string]string)
	for _, v := range pod.Volumes {
		if shared := v.GetShared(); shared != nil {
			volumes[v.Name] = shared.Path
		} else if v.GetLocal() != nil {
			volumes[v.Name] = r.volumeDir(pod.Name, v.Name)
		}
	}
	etc := r.etcDir(pod.Name)
	return spec.Input{
		Pod: pod, Container: index, Image: image, RootFS: root, Epoch: rec.Epoch,
		NetNS:      r.netns(pod.Name),
		Cgroup:     r.containerCgroup(pod.Name, pod.Containers[index].Name),
		Cgroup2:    CgroupVersion() == 2,
		Volumes:    volumes,
		Hosts:      filepath.Join(etc, "hosts"),
		Hostname:   filepath.Join(etc, "hostname"),
		ResolvConf: filepath.Join(etc, "resolv.conf"),
		Empty:      filepath.Join(r.cfg.DataDir, "empty"),
		CRIUConfig: criuConfig(pod.Name, pod.Containers[index].Name),
	}
}

// adapt gives a specification that was made on another host the paths of this one. All else stays as it is: what was
// checkpointed under it must be restored under it.
func (r *Runtime) adapt(s *specs.Spec, pod *drydockv1.PodSpec, container string) {
	s.Linux.CgroupsPath = r.containerCgroup(pod.Name, container)
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == specs.NetworkNamespace {
			s.Linux.Namespaces[i].Path = r.netns(pod.Name)
		}
	}
}

// Specs are the specifications of the pod's containers, by name.
func (r *Runtime) Specs(ctx context.Context, pod string) (map[string][]byte, error) {
	rec, err := r.Record(pod)
	if err != nil {
		return nil, err
	}
	ctx = r.context(ctx)
	result := make(map[string][]byte)
	for _, c := range rec.Spec.Containers {
		loaded, err := r.client.LoadContainer(ctx, containerID(pod, c.Name))
		if err != nil {
			return nil, fmt.Errorf("container %s of pod %s: %w", c.Name, pod, err)
		}
		s, err := loaded.Spec(ctx)
		if err != nil {
			return nil, fmt.Errorf("container %s of pod %s: %w", c.Name, pod, err)
		}
		if result[c.Name], err = json.Marshal(s); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// Descriptors are what runc keeps, by container, of the descriptors that its first process has from outside. A checkpoint
// writes the same.
func (r *Runtime) Descriptors(pod string) (map[string][]byte, error) {
	rec, err := r.Record(pod)
	if err != nil {
		return nil, err
	}
	result := make(map[string][]byte)
	for _, c := range rec.Spec.Containers {
		data, err := os.ReadFile(filepath.Join(r.runcRoot, containerID(pod, c.Name), "state.json"))
		if err != nil {
			return nil, fmt.Errorf("runc's state of container %s of pod %s: %w", c.Name, pod, err)
		}
		var state struct {
			Descriptors json.RawMessage `json:"external_descriptors"`
		}
		if err := json.Unmarshal(data, &state); err != nil {
			return nil, fmt.Errorf("runc's state of container %s of pod %s: %w", c.Name, pod, err)
		}
		result[c.Name] = state.Descriptors
	}
	return result, nil
}

func decodeSpec(data []byte) (*oci.Spec, error) {
	if data == nil {
		return nil, nil
	}
	s := new(oci.Spec)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("specification: %w", err)
	}
	return s, nil
}

func (r *Runtime) makeEmpty() error {
	if err := os.MkdirAll(filepath.Join(r.cfg.DataDir, "empty"), 0o555); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}
