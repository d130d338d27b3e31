package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrDown is returned, wrapped, for a host or a service that does not run.
var ErrDown = errors.New("is down")

// StartHost starts a host that is down, with what it kept on its disk, and returns when its services are being started.
func (l *Lab) StartHost(ctx context.Context, host string) error {
	if err := l.check(host); err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := l.running(host); err == nil {
		return fmt.Errorf("host %s of lab %s runs already", host, l.name)
	}
	if l.isVM(host) {
		return l.startVM(ctx, host, "")
	}
	return l.startNode(ctx, host)
}

// KillHost crashes a host as a power cut does: not one more frame leaves it, then its init and all that runs in it are
// killed. It returns when nothing of the host runs.
func (l *Lab) KillHost(ctx context.Context, host string) error {
	if err := l.check(host); err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := l.running(host)
	if err != nil {
		return err
	}
	if joined(host) {
		if err := l.setPort(host, false); err != nil {
			return err
		}
	}
	if err := now.Init.signal(unix.SIGKILL); err != nil {
		return err
	}
	return l.clearNode(ctx, host)
}

// RebootHost asks a host's init to reboot, and returns when the host has come up with a new boot id.
func (l *Lab) RebootHost(ctx context.Context, host string) error {
	if err := l.check(host); err != nil {
		return err
	}
	if l.isVM(host) {
		return l.rebootVM(ctx, host)
	}
	before, err := l.running(host)
	if err != nil {
		return err
	}
	keeper, err := readProcess(l.keeperRecord(host))
	if err != nil {
		return err
	}
	if err := before.Init.signal(unix.SIGHUP); err != nil {
		return err
	}
	var ended error
	err = waitFor(ctx, "host "+host+" to reboot", func() bool {
		now, err := l.running(host)
		if err == nil && now.Ready && now.Boot != before.Boot {
			return true
		}
		if !keeper.alive() {
			ended = fmt.Errorf("host %s did not come back: see %s", host, filepath.Join(l.LogDir(host), "keeper.log"))
		}
		return ended != nil
	})
	return errors.Join(err, ended)
}

// InitPID is the PID, on the machine, of a host's init. The error wraps ErrDown if the host does not run, or is still
// booting: its namespaces are not its own yet then.
func (l *Lab) InitPID(host string) (int, error) {
	if err := l.check(host); err != nil {
		return 0, err
	}
	if l.isVM(host) {
		return 0, fmt.Errorf("host %s is a virtual machine: no process of it is one of this machine's", host)
	}
	now, err := l.running(host)
	if err == nil && !now.Ready {
		err = fmt.Errorf("host %s of lab %s is booting and %w until then", host, l.name, ErrDown)
	}
	return now.Init.PID, err
}

// Root is a path on the machine that leads into a running host's files, sockets among them.
func (l *Lab) Root(host string) (string, error) {
	pid, err := l.InitPID(host)
	return fmt.Sprintf("/proc/%d/root", pid), err
}

// ServicePID is the PID, on the machine, of a host's service. The error wraps ErrDown while it does not run.
func (l *Lab) ServicePID(host, service string) (int, error) {
	init, err := l.InitPID(host)
	if err != nil {
		return 0, err
	}
	states, err := l.services(host)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(states, func(s serviceState) bool { return s.Name == service })
	if i < 0 {
		return 0, fmt.Errorf("host %s has no service %s", host, service)
	}
	pids, err := groupProcesses(l.nodeGroup(host))
	if err != nil {
		return 0, err
	}
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return 0, fmt.Errorf("host %s: %w", host, ErrDown)
	}
	for _, pid := range pids {
		inner, err := innerPID(pid)
		if err != nil || states[i].PID == 0 || inner != states[i].PID {
			continue
		}
		if own, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); own == space {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("service %s on host %s %w", service, host, ErrDown)
}

// joinScript moves the shell into the cgroups before -- and becomes the command after it.
const joinScript = `while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"`

// Exec is a command that runs in all of a host's namespaces, or in the network namespace of ClientNode or the switch.
// A host's command gets the environment of the host's programs; the client's gets this process's, and the machine's files.
// It is a part of the lab: it ends with the lab, with the host, and with ctx. Starting it fails if the host is down.
func (l *Lab) Exec(ctx context.Context, node string, argv ...string) *exec.Cmd {
	if l.isVM(node) {
		return l.vmExec(ctx, node, argv)
	}
	enter, group, err := l.entrance(node)
	hs, herr := hierarchies()
	var full []string
	for _, h := range hs {
		full = append(full, h.dir(group))
	}
	full = append(append(append(full, "--"), enter...), argv...)
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", joinScript, "sh"}, full...)...)
	if node != ClientNode && node != switchNode {
		cmd.Env = append(hostEnv(l.name), "TERM="+os.Getenv("TERM"))
	}
	if len(argv) == 0 {
		err = errors.Join(err, errors.New("no command given"))
	}
	if err = errors.Join(err, herr); err != nil {
		cmd.Err = err
	}
	return cmd
}

// entrance is the command that enters a node, and the cgroup to enter it in. In a host, the command dies with nsenter,
// which is all that the caller can kill.
func (l *Lab) entrance(node string) (argv []string, group string, err error) {
	if node == ClientNode || node == switchNode {
		return []string{"nsenter", "--net=" + l.NetNS(node), "--"}, filepath.Join(l.group(), ClientNode), nil
	}
	pid, err := l.InitPID(node)
	if err != nil {
		return nil, "", err
	}
	argv = []string{"nsenter", fmt.Sprint("--target=", pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--",
		"setpriv", "--pdeathsig", "KILL", "--"}
	return argv, filepath.Join(l.nodeGroup(node), "system"), nil
}

// startNode starts a host's keeper and waits until its init is ready.
func (l *Lab) startNode(ctx context.Context, node string) error {
	if err := l.clearNode(ctx, node); err != nil {
		return err
	}
	if err := makeGroup(filepath.Join(l.nodeGroup(node), "keeper")); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(l.LogDir(node), "keeper.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	defer log.Close()
	cmd := exec.Command(l.binary(), "lab", "host-keeper", l.name, node)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	child, err := startHeld(cmd)
	if err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	go func() { _ = cmd.Wait() }() // bury it; how it ended is in its log
	defer child.report.Close()
	p, err := identify(cmd.Process.Pid)
	if err == nil {
		err = writeJSON(l.keeperRecord(node), p)
	}
	if err == nil {
		stop := context.AfterFunc(ctx, func() { child.report.Close() })
		defer stop()
		err = child.goOn()
	} else {
		child.hold.Close()
	}
	if err = errors.Join(context.Cause(ctx), err); err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	return nil
}

// clearNode ends all that may be left of a host that is down, or half down.
func (l *Lab) clearNode(ctx context.Context, node string) error {
	if err := killGroup(ctx, l.nodeGroup(node)); err != nil {
		return err
	}
	return errors.Join(
		l.dropNetwork(node),
		removeGroup(ctx, l.nodeGroup(node)),
		removeIfThere(l.runningRecord(node)),
		removeIfThere(l.keeperRecord(node)),
	)
}

// dropNetwork removes what a node's init had on the switch.
func (l *Lab) dropNetwork(node string) error {
	if !joined(node) {
		return nil
	}
	return errors.Join(l.unplug(node), removeIfThere(l.NetNS(node)))
}

// running is the record of a host that runs. The error wraps ErrDown if it does not.
func (l *Lab) running(node string) (running, error) {
	var now running
	err := readJSON(l.runningRecord(node), &now)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return now, err
	}
	if err != nil || !now.Init.alive() {
		return running{}, fmt.Errorf("host %s of lab %s %w", node, l.name, ErrDown)
	}
	return now, nil
}

func (l *Lab) services(node string) ([]serviceState, error) {
	var states []serviceState
	err := readJSON(filepath.Join(l.LogDir(node), servicesFile), &states)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return states, err
}

// check refuses names that are no host of the lab.
func (l *Lab) check(node string) error {
	if slices.Contains(l.nodes(), node) {
		return nil
	}
	return fmt.Errorf("lab %s has no host %q; it has %s", l.name, node, strings.Join(l.nodes(), ", "))
}
