package pods

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Freeze stops every process of the pod and returns when the kernel says that all of them are stopped, where CRIU can dump them.
func (r *Runtime) Freeze(ctx context.Context, pod string) error {
	return r.eachCgroup(pod, func(c cgroup) error { return c.freezeWhole(ctx) })
}

// FreezeAll freezes, above the containers' own cgroups, the one that holds them all: CRIU thaws the former while it dumps,
// but what is frozen above stays frozen whatever becomes of CRIU. Nothing but Thaw and Kill undoes it.
func (r *Runtime) FreezeAll(ctx context.Context, pod string) error {
	return cgroupAt(r.podCgroup(pod)).freeze(ctx)
}

// Thaw lets the pod's processes go on.
func (r *Runtime) Thaw(ctx context.Context, pod string) error {
	if err := r.eachCgroup(pod, func(c cgroup) error { return c.write(false) }); err != nil {
		return err
	}
	if err := cgroupAt(r.podCgroup(pod)).thaw(ctx); err != nil {
		return err
	}
	return r.eachCgroup(pod, func(c cgroup) error { return c.thaw(ctx) })
}

// frozen tells whether every container of a pod is frozen, as the kernel says. One that has no cgroup has no process either:
// runc removes a container's cgroup when its restore has failed, while those of others are still there.
func (r *Runtime) frozen(rec *Record) (bool, error) {
	all := true
	err := r.cgroupsOf(rec, func(c cgroup) error {
		frozen, err := c.frozen()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
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
	return r.processes(rec)
}

func (r *Runtime) processes(rec *Record) (map[string][]int, error) {
	result := make(map[string][]int)
	for _, c := range rec.Spec.Containers {
		group := cgroupAt(r.containerCgroup(rec.Spec.Name, c.Name))
		if !group.exists() {
			continue
		}
		pids, err := group.pids()
		if err != nil {
			return nil, err
		}
		result[c.Name] = pids
	}
	return result, nil
}

func (r *Runtime) eachCgroup(pod string, do func(cgroup) error) error {
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	return r.cgroupsOf(rec, do)
}

func (r *Runtime) cgroupsOf(rec *Record, do func(cgroup) error) error {
	var errs []error
	for _, c := range rec.Spec.Containers {
		errs = append(errs, do(cgroupAt(r.containerCgroup(rec.Spec.Name, c.Name))))
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
	// Lazy leaves the pages in place, to be asked for by the destination. CRIU writes a byte to LazyReady when it may ask.
	Lazy      bool
	LazyReady *os.File
	// Options are more lines for CRIU's configuration.
	Options []string
	// Parent, relative to Images, has the images of an earlier pre-dump: only memory written since then is dumped.
	Parent string
}

// DumpOptions are CRIU's for a dump. The lock on the pod's connections is ours: its network is unplugged.
const DumpOptions = `tcp-established
network-lock skip
file-locks
link-remap
ghost-limit 1073741824
manage-cgroups=ignore
`

// Checkpoint writes the state of one frozen container and leaves it frozen and whole. CRIU is never killed: it
// would leave its parasite in the container.
func (r *Runtime) Checkpoint(_ context.Context, pod, container string, dump Dump) error {
	options := DumpOptions
	for _, option := range dump.Options {
		options += option + "\n"
	}
	if err := writeCRIUConfig(pod, container, options); err != nil {
		return err
	}
	command, err := r.checkpointCommand(pod, container, dump)
	if err != nil {
		return err
	}
	if err := run(command, filepath.Join(dump.Work, "runc.log")); err != nil {
		return fmt.Errorf("checkpoint container %s of pod %s: %w", container, pod, CRIUSaid(filepath.Join(dump.Work, "dump.log"), err))
	}
	if dump.Lazy {
		return nil // the pages are gone over, and the destination runs
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

// PreDump writes the memory of one container that runs, and has the kernel note what is written to from now on; for that the
// container stands still for a moment. CRIU is never killed, as in Checkpoint.
func (r *Runtime) PreDump(_ context.Context, pod, container string, dump Dump) error {
	if err := writeCRIUConfig(pod, container, DumpOptions); err != nil {
		return err
	}
	command, err := r.checkpointCommand(pod, container, dump, "--pre-dump")
	if err != nil {
		return err
	}
	if err := run(command, filepath.Join(dump.Work, "runc.log")); err != nil {
		return fmt.Errorf("copy the memory of container %s of pod %s: %w", container, pod, CRIUSaid(filepath.Join(dump.Work, "dump.log"), err))
	}
	return nil
}

// checkpointCommand is runc's, with what containerd's shim has no words for.
func (r *Runtime) checkpointCommand(pod, container string, dump Dump, more ...string) (*exec.Cmd, error) {
	args := []string{"runc", "--root", r.runcRoot, "checkpoint", "--leave-running", "--tcp-established", "--file-locks",
		"--image-path", dump.Images, "--work-path", dump.Work}
	args = append(args, more...)
	if dump.PageServer != "" {
		args = append(args, "--page-server", dump.PageServer)
	}
	if dump.Lazy {
		args = append(args, "--lazy-pages")
	}
	if dump.Parent != "" {
		args = append(args, "--parent-path", dump.Parent)
	}
	var extra []*os.File
	if dump.LazyReady != nil {
		args, extra = append(args, "--status-fd", "3"), []*os.File{dump.LazyReady}
	}
	as, err := r.asOwner(pod, container)
	if err != nil {
		return nil, err
	}
	args = append(append(as, args...), containerID(pod, container))
	command := exec.Command(args[0], args[1:]...)
	command.ExtraFiles = extra
	// A session of its own, so that CRIU outlives an agent that is ended.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return command, nil
}

// run runs a command whose output goes to a log, for the end of its error. A file rather than a pipe takes the output, so
// that the command does not depend on this process.
func run(command *exec.Cmd, log string) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close()
	command.Stdout, command.Stderr = out, out
	err = command.Run()
	if err == nil {
		return nil
	}
	said, _ := os.ReadFile(log)
	return fmt.Errorf("%s: %w: %s", filepath.Base(command.Path), err, strings.TrimSpace(string(said)))
}

func writeCRIUConfig(pod, container, options string) error {
	path := criuConfig(pod, container)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(options), 0o600)
}

// unprivileged is the complaint of every CRIU that runs without CAP_SYS_RESOURCE.
const unprivileged = "Can't setup RLIMIT_NOFILE for self"

// CRIUSaid is what CRIU says went wrong in its log: what runc says of it is only that it failed. Without a word of CRIU it is
// err.
func CRIUSaid(log string, err error) error {
	data, rerr := os.ReadFile(log)
	if rerr != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "Error") && !strings.Contains(line, unprivileged) && len(lines) < 4 {
			_, text, _ := strings.Cut(line, "Error ")
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("CRIU: %s", strings.Join(lines, "; "))
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
