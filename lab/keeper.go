package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// Descriptors that a keeper and an init are started with: they go on only when the word comes on the first, and say on
// the second that they are ready, or why not. So nothing starts that its starter did not live to write down.
const (
	goFD     = 3
	reportFD = 4
)

const readyWord = "ready"

// running is what is known about a host that was started: its init, and its boot.
type running struct {
	Init  process `json:"init"`
	Boot  string  `json:"boot"`
	Ready bool    `json:"ready"` // its mounts are made and its services are being started
}

func (l *Lab) keeperRecord(node string) string  { return l.nodeDir(node, "keeper.json") }
func (l *Lab) runningRecord(node string) string { return l.nodeDir(node, "running.json") }
func (l *Lab) nodeGroup(node string) string     { return filepath.Join(l.group(), node) }

// keeper runs one host for as long as it lives, through its reboots.
type keeper struct {
	lab   *Lab
	node  string
	ready func(error) // tells the starter, once
}

// runKeeper is the keeper's main. It returns when the host is down for good.
func runKeeper(labName, node string) error {
	unix.CloseOnExec(goFD)
	unix.CloseOnExec(reportFD)
	l := &Lab{name: labName}
	if err := l.load(); err != nil {
		return err
	}
	report := os.NewFile(reportFD, "report")
	k := &keeper{lab: l, node: node, ready: func(err error) {
		fmt.Fprintln(report, word(err))
		report.Close()
	}}
	err := joinGroup(filepath.Join(l.nodeGroup(node), "keeper"))
	if err == nil {
		err = awaitGo()
	}
	if err == nil {
		err = k.run(context.Background())
	}
	if err != nil {
		k.ready(err)
	}
	return err
}

// run boots the host until it ends otherwise than by rebooting.
func (k *keeper) run(ctx context.Context) error {
	for {
		again, err := k.boot(ctx)
		if err = errors.Join(err, k.clean(ctx)); err != nil || !again {
			return err
		}
	}
}

// boot starts the host's init and waits for its end. It tells whether the host asked to be started again.
func (k *keeper) boot(ctx context.Context) (again bool, err error) {
	if err := makeGroup(filepath.Join(k.lab.nodeGroup(k.node), "system")); err != nil {
		return false, err
	}
	now := running{Boot: uuid.NewString()}
	child, err := startHeld(initCommand(k.lab, k.node, now.Boot))
	if err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	err = k.bringUp(ctx, child, &now)
	if err != nil {
		_ = child.cmd.Process.Kill()
	} else {
		k.ready(nil)
	}
	go func() { ended <- child.cmd.Wait() }()
	k.awaitDeath(ctx, child)
	<-ended
	status, ok := child.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return err == nil && ok && status.Signaled() && status.Signal() == unix.SIGHUP, err
}

// bringUp plugs the new host in, lets its init go on, and waits until it is ready.
func (k *keeper) bringUp(ctx context.Context, child *held, now *running) error {
	pid := child.cmd.Process.Pid
	var err error
	if now.Init, err = identify(pid); err != nil {
		return err
	}
	if err := writeJSON(k.lab.runningRecord(k.node), now); err != nil {
		return err
	}
	if joined(k.node) {
		if err := k.join(ctx, pid); err != nil {
			return err
		}
	}
	if err := child.goOn(); err != nil {
		return err
	}
	now.Ready = true
	return writeJSON(k.lab.runningRecord(k.node), now)
}

// join puts a new init's network on the switch.
func (k *keeper) join(ctx context.Context, pid int) error {
	link := k.lab.NetNS(k.node)
	if err := errors.Join(removeIfThere(link), os.Symlink(fmt.Sprintf("/proc/%d/ns/net", pid), link)); err != nil {
		return err
	}
	return k.lab.plugHost(ctx, k.node, pid)
}

// awaitDeath returns once the init is dying, seen by the end of its report: from here nothing leaves the host. Frozen
// processes of it do not take the signal that ends them until they are thawed.
func (k *keeper) awaitDeath(ctx context.Context, child *held) {
	_, _ = io.Copy(io.Discard, child.report)
	child.report.Close()
	if joined(k.node) {
		if err := k.lab.setPort(k.node, false); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if err := k.endGroups(ctx, killGroup); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// clean removes what a host that has ended leaves: its link, its cgroups, its records of running.
func (k *keeper) clean(ctx context.Context) error {
	return errors.Join(
		k.lab.dropNetwork(k.node),
		k.endGroups(ctx, removeGroup),
		removeIfThere(k.lab.runningRecord(k.node)),
	)
}

// endGroups calls end for the host's cgroups, all but the keeper's own.
func (k *keeper) endGroups(ctx context.Context, end func(context.Context, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	names, err := childGroups(k.lab.nodeGroup(k.node))
	for _, name := range names {
		if name != "keeper" {
			err = errors.Join(err, end(ctx, filepath.Join(k.lab.nodeGroup(k.node), name)))
		}
	}
	return err
}

func initCommand(l *Lab, node, boot string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "lab", "host-init", l.specPath(node), boot)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	spaces := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if joined(node) {
		spaces |= unix.CLONE_NEWNET
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Cloneflags: spaces}
	return cmd
}

// held is a child that waits for the word to go on.
type held struct {
	cmd    *exec.Cmd
	hold   *os.File
	report *os.File
}

// startHeld starts cmd with the two descriptors that its side of the agreement needs.
func startHeld(cmd *exec.Cmd) (*held, error) {
	goRead, goWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer goRead.Close()
	reportRead, reportWrite, err := os.Pipe()
	if err != nil {
		goWrite.Close()
		return nil, err
	}
	defer reportWrite.Close()
	cmd.ExtraFiles = []*os.File{goRead, reportWrite}
	if err := cmd.Start(); err != nil {
		goWrite.Close()
		reportRead.Close()
		return nil, fmt.Errorf("start %s: %w", strings.Join(cmd.Args, " "), err)
	}
	return &held{cmd: cmd, hold: goWrite, report: reportRead}, nil
}

// goOn gives the word and waits for the child's answer.
func (h *held) goOn() error {
	defer h.hold.Close()
	if _, err := fmt.Fprintln(h.hold, readyWord); err != nil {
		return fmt.Errorf("%s ended too soon: %w", strings.Join(h.cmd.Args, " "), err)
	}
	line, err := bufio.NewReader(h.report).ReadString('\n') // nothing follows the line
	if err != nil {
		return fmt.Errorf("%s ended too soon", strings.Join(h.cmd.Args, " "))
	}
	if line = strings.TrimSpace(line); line != readyWord {
		return errors.New(line)
	}
	return nil
}

// awaitGo is the child's side: it fails when the starter died first.
func awaitGo() error {
	byHand := errors.New("this command is part of a lab's host and is not for calling by hand")
	var st unix.Stat_t
	if err := unix.Fstat(goFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return byHand
	}
	f := os.NewFile(goFD, "go")
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != readyWord {
		return byHand
	}
	return nil
}

func word(err error) string {
	if err == nil {
		return readyWord
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
