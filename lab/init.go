package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// HostMain is what the hidden commands `lab host-keeper`, `lab host-init` and `lab package-relay` run, called with what follows `lab`. It
// returns when what it runs has ended.
func HostMain(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "host-keeper":
		return runKeeper(args[1], args[2])
	case len(args) == 3 && args[0] == "host-init":
		return runInit(args[1], args[2])
	case len(args) == 3 && args[0] == "package-relay":
		return runRelay(args[1], args[2])
	}
	return fmt.Errorf("lab %v: no such command", args)
}

// runInit is PID 1 of a host. SIGTERM turns the host off, SIGHUP reboots it; so does reboot(2) called by any of the
// host's processes, which the kernel ends the PID namespace for.
func runInit(specPath, boot string) error {
	if os.Getpid() != 1 {
		return errors.New("the init of a lab's host is PID 1 of its own PID namespace, and is not for calling by hand")
	}
	unix.CloseOnExec(goFD)
	unix.CloseOnExec(reportFD)
	if err := awaitGo(); err != nil {
		return err
	}
	report := os.NewFile(reportFD, "report") // stays open: its end tells the keeper that this init is dying
	defer runtime.KeepAlive(report)          // or the collector closes it, at the latest after two minutes
	sup, err := setUp(specPath, boot)
	fmt.Fprintln(report, word(err))
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go sup.reap(ctx)
	sup.startAll()
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if <-signals == unix.SIGHUP {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	sup.stopAll(ctx, 5*time.Second)
	unix.Sync()
	return unix.Reboot(how) // in a PID namespace: ends this process with the signal that tells the keeper what to do
}

// setUp turns the new namespaces into the host.
func setUp(specPath, boot string) (*supervisor, error) {
	var s spec
	if err := readJSON(specPath, &s); err != nil {
		return nil, err
	}
	l := &Lab{name: s.Lab, rec: record{Hosts: s.Hosts}}
	if err := joinGroup(filepath.Join(l.nodeGroup(s.Node), "system")); err != nil {
		return nil, err
	}
	if err := errors.Join(raiseFileLimit(), unix.Sethostname([]byte(s.Node))); err != nil {
		return nil, fmt.Errorf("host %s: %w", s.Node, err)
	}
	if joined(s.Node) {
		if err := silenceFilters(); err != nil {
			return nil, fmt.Errorf("host %s: %w", s.Node, err)
		}
	}
	if err := enterRoot(l, s, boot); err != nil {
		return nil, fmt.Errorf("host %s: %w", s.Node, err)
	}
	return newSupervisor(s), nil
}

// raiseFileLimit gives the services all the descriptors that this host may have, as an init does.
func raiseFileLimit() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	lim.Cur = lim.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
}

// rebootCommand reboots the host that it is run in: what an agent is told to run.
func rebootCommand() []string { return []string{"/usr/bin/kill", "-HUP", "1"} }
