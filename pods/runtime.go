package pods

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"drydock/pods/network"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// Config says where a host keeps its pods.
type Config struct {
	// Socket of containerd.
	Socket string
	// Namespace of containerd that holds the pods; nothing outside it is touched.
	Namespace string
	// DataDir survives a reboot: volumes, logs, records of pods.
	DataDir string
	// RunDir does not: network namespaces, images in transit. It must be on a file system that is kept in memory.
	RunDir string
	// CgroupParent is the group below which every pod has its own.
	CgroupParent string
	// Bridge is the host's link that pods are plugged into.
	Bridge string
}

// Runtime runs the pods of one host.
type Runtime struct {
	cfg    Config
	client *containerd.Client
	// runcRoot is where containerd's shim has runc keep its state.
	runcRoot string
	net      *network.Host
	// overlaid is set while pods hang on a VXLAN's bridge instead of the configured one.
	overlaid atomic.Bool
}

// New connects to containerd. The connection is made anew by itself when containerd is restarted.
func New(cfg Config) (*Runtime, error) {
	client, err := containerd.New(cfg.Socket, containerd.WithDefaultNamespace(cfg.Namespace))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w; is it running?", cfg.Socket, err)
	}
	net, err := network.NewHost(filepath.Join(cfg.RunDir, "netns"))
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &Runtime{
		cfg:      cfg,
		client:   client,
		net:      net,
		runcRoot: filepath.Join("/run/containerd/runc", cfg.Namespace),
	}, nil
}

// Close ends the connection; pods run on.
func (r *Runtime) Close() error { return errors.Join(r.client.Close(), r.net.Close()) }

// Version is containerd's.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	v, err := r.client.Version(r.context(ctx))
	return v.Version, err
}

func (r *Runtime) context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, r.cfg.Namespace)
}

func (r *Runtime) podDir(pod string) string          { return filepath.Join(r.cfg.DataDir, "pods", pod) }
func (r *Runtime) volumeDir(pod, name string) string { return filepath.Join(r.volumesDir(pod), name) }
func (r *Runtime) volumesDir(pod string) string      { return filepath.Join(r.cfg.DataDir, "volumes", pod) }
func (r *Runtime) netns(pod string) string           { return filepath.Join(r.cfg.RunDir, "netns", pod) }
func (r *Runtime) podCgroup(pod string) string       { return filepath.Join(r.cfg.CgroupParent, "pods", pod) }
func (r *Runtime) containerCgroup(pod, container string) string {
	return filepath.Join(r.podCgroup(pod), container)
}

// criuConfig is the file that runc hands to CRIU for a container. The container's specification names it, so it has the
// same path on every host.
func criuConfig(pod, container string) string {
	return filepath.Join("/run/drydock/criu", containerID(pod, container)+".conf")
}

func (r *Runtime) logFile(pod, container string) string {
	return filepath.Join(r.podDir(pod), "logs", container+".log")
}

// containerID names a container in containerd. Pod names hold no dot, so the two parts stay apart.
func containerID(pod, container string) string { return pod + "." + container }
