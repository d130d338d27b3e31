package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	runc "github.com/containerd/go-runc"
)

// Freeze stops every process of the pod and returns when the kernel says that all of them are stopped.
func (r *Runtime) Freeze(ctx context.Context, pod string) error {
	return r.eachCgroup(pod, func(c cgroup) error { return c.freeze(ctx) })
}

// Thaw lets the pod's processes go on.
func (r *Runtime) Thaw(ctx context.Context, pod string) error {
	return r.eachCgroup(pod, func(c cgroup) error { return c.thaw(ctx) })
}

// Frozen tells whether every container of the pod is frozen, as the kernel says.
func (r *Runtime) Frozen(pod string) (bool, error) {
	all := true
	err := r.eachCgroup(pod, func(c cgroup) error {
		frozen, err := c.frozen()
		all = all && frozen
		return err
	})
	return all, err
}

// Processes lists the pod's processes by container, as the host numbers them.
func (r *Runtime) Processes(pod string) (map[string][]int, error) {
	rec, err := r.Record(pod)
	if err != nil {
		return nil, err
	}
	result := make(map[string][]int)
	for _, c := range rec.Spec.Containers {
		group := cgroupAt(r.containerCgroup(pod, c.Name))
		if !group.exists() {
			continue
		}
		if result[c.Name], err = group.pids(); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func (r *Runtime) eachCgroup(pod string, do func(cgroup) error) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range rec.Spec.Containers {
		errs = append(errs, do(cgroupAt(r.containerCgroup(pod, c.Name))))
	}
	return errors.Join(errs...)
}

// Dump says how a container's state is written.
type Dump struct {
	// Images is the directory that CRIU writes to; it lies in memory.
	Images string
	// Work holds CRIU's log.
	Work string
	// PageServer, host:port, takes the memory's pages instead of Images.
	PageServer string
	// Lazy leaves the pages in place, to be asked for by the destination. LazyReady is written to when it may ask.
	Lazy      bool
	LazyReady *os.File
}

// dumpOptions are CRIU's for a dump. The lock on the pod's connections is ours: its network is unplugged.
const dumpOptions = `tcp-established
network-lock skip
file-locks
link-remap
ghost-limit 1073741824
manage-cgroups ignore
`

// Checkpoint writes the state of one frozen container and leaves it frozen and whole. CRIU is not killed when ctx ends:
// it would leave its parasite in the container.
func (r *Runtime) Checkpoint(ctx context.Context, pod, container string, dump Dump) error {
	if err := writeCRIUConfig(pod, container, dumpOptions); err != nil {
		return err
	}
	options := &runc.CheckpointOpts{
		ImagePath:      dump.Images,
		WorkDir:        dump.Work,
		AllowOpenTCP:   true,
		FileLocks:      true,
		CriuPageServer: dump.PageServer,
		LazyPages:      dump.Lazy,
		StatusFile:     dump.LazyReady,
	}
	err := r.runc.Checkpoint(context.WithoutCancel(ctx), containerID(pod, container), options, runc.LeaveRunning)
	if err != nil {
		return fmt.Errorf("checkpoint container %s of pod %s: %w%s", container, pod, err, lastErrors(filepath.Join(dump.Work, "dump.log")))
	}
	frozen, err := cgroupAt(r.containerCgroup(pod, container)).frozen()
	if err != nil {
		return err
	}
	if !frozen {
		return fmt.Errorf("checkpoint container %s of pod %s: it was no longer frozen when CRIU had finished", container, pod)
	}
	return nil
}

func writeCRIUConfig(pod, container, options string) error {
	path := criuConfig(pod, container)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(options), 0o600)
}

// lastErrors finds what CRIU said went wrong, for the end of an error message.
func lastErrors(log string) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	var lines []string
	for _, line := range strings.Split(string(data), "\n") {
		if strings.Contains(line, "Error") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) > 4 {
		lines = lines[:4]
	}
	if len(lines) == 0 {
		return ""
	}
	return "; CRIU: " + strings.Join(lines, "; ")
}

// CRIUVersion is the installed CRIU's, for example 4.2.1.
func CRIUVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "criu", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("criu --version: %w; install CRIU 4.2 or later", err)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if version, found := strings.CutPrefix(line, "Version: "); found {
			return strings.TrimSpace(version), nil
		}
	}
	return "", fmt.Errorf("criu --version said %q", out)
}
