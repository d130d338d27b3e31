package pods

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	drydockv1 "drydock/api/drydock/v1"

	"github.com/moby/sys/mountinfo"
)

// Tree is a directory of a pod that moves with it.
type Tree struct {
	// Name is the same on every host: layer/CONTAINER, volume/NAME or logs.
	Name string
	Dir  string
}

// Trees lists the directories that make up a pod's files on this host: the writable layer of each container, the local
// volumes, and the logs.
func (r *Runtime) Trees(ctx context.Context, pod string) ([]Tree, error) {
	rec, err := r.Record(pod)
	if err != nil {
		return nil, err
	}
	var trees []Tree
	for _, c := range rec.Spec.Containers {
		dir, err := r.writableLayer(ctx, pod, c.Name)
		if err != nil {
			return nil, err
		}
		trees = append(trees, Tree{"layer/" + c.Name, dir})
	}
	for _, v := range rec.Spec.Volumes {
		if v.GetLocal() != nil {
			trees = append(trees, Tree{"volume/" + v.Name, r.volumeDir(pod, v.Name)})
		}
	}
	logs := filepath.Join(r.podDir(pod), "logs")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, err
	}
	return append(trees, Tree{"logs", logs}), nil
}

// writableLayer finds the directory that overlayfs writes a container's changes to.
func (r *Runtime) writableLayer(ctx context.Context, pod, container string) (string, error) {
	mounts, err := r.client.SnapshotService(snapshotter).Mounts(r.context(ctx), containerID(pod, container))
	if err != nil {
		return "", fmt.Errorf("writable layer of container %s of pod %s: %w", container, pod, err)
	}
	for _, m := range mounts {
		if m.Type == "bind" {
			return m.Source, nil
		}
		for _, option := range m.Options {
			if dir, found := strings.CutPrefix(option, "upperdir="); found {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("writable layer of container %s of pod %s: snapshotter %s names none", container, pod, snapshotter)
}

func (r *Runtime) etcDir(pod string) string { return filepath.Join(r.podDir(pod), "etc") }

// writeEtc makes the files that every container of the pod sees in its /etc.
func (r *Runtime) writeEtc(pod *drydockv1.PodSpec) error {
	dir := r.etcDir(pod.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var hosts, resolv strings.Builder
	fmt.Fprintf(&hosts, "127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
	for _, address := range pod.Addresses {
		ip, _, _ := strings.Cut(address, "/")
		fmt.Fprintf(&hosts, "%s %s\n", ip, hostname(pod))
	}
	for _, alias := range pod.HostAliases {
		fmt.Fprintf(&hosts, "%s %s\n", alias.Ip, strings.Join(alias.Hostnames, " "))
	}
	for _, server := range pod.Nameservers {
		fmt.Fprintf(&resolv, "nameserver %s\n", server)
	}
	for name, content := range map[string]string{"hosts": hosts.String(), "resolv.conf": resolv.String(), "hostname": hostname(pod) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("files of pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

func hostname(pod *drydockv1.PodSpec) string {
	if pod.Hostname != "" {
		return pod.Hostname
	}
	return pod.Name
}

func mountsBelow(dir string) ([]string, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("read the mounts below %s: %w", dir, err)
	}
	var mounts []string
	for _, info := range infos {
		mounts = append(mounts, info.Mountpoint)
	}
	return mounts, nil
}
