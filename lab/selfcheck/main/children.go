package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childMode is the first argument of the program when it is its own child.
const childMode = "as-child"

// kin is what a child tells about itself.
type kin struct {
	PID, Parent, Session, Group int
	Asked                       int
}

// runChild answers every line with what it is; with an argument it ends at once with that exit status.
func runChild(args []string) int {
	if len(args) > 0 {
		return exitEarly
	}
	lines := bufio.NewScanner(os.Stdin)
	for asked := 1; lines.Scan(); asked++ {
		session, errSession := unix.Getsid(0)
		group, errGroup := unix.Getpgid(0)
		if errors.Join(errSession, errGroup) != nil {
			return 1
		}
		answer := kin{PID: os.Getpid(), Parent: os.Getppid(), Session: session, Group: group, Asked: asked}
		if json.NewEncoder(os.Stdout).Encode(answer) != nil {
			return 1
		}
	}
	return 0
}

// exitEarly is the exit status of the child that becomes a zombie.
const exitEarly = 37

// talker is a child that answers a line with a line.
type talker struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// startTalker starts a program that does not outlive this one.
func startTalker(attr syscall.SysProcAttr, program string, args ...string) (*talker, error) {
	cmd := exec.Command(program, args...)
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr, cmd.Stderr = &attr, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &talker{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

func (t *talker) ask(line string) (string, error) {
	if _, err := fmt.Fprintln(t.in, line); err != nil {
		return "", err
	}
	answer, err := t.out.ReadString('\n')
	return strings.TrimSuffix(answer, "\n"), err
}

// makeChild watches a child that leads a session of its own.
func makeChild(environment) (func() error, error) {
	t, err := startTalker(syscall.SysProcAttr{Setsid: true}, "/proc/self/exe", childMode)
	if err != nil {
		return nil, err
	}
	pid := t.cmd.Process.Pid
	want := kin{PID: pid, Parent: os.Getpid(), Session: pid, Group: pid}
	return func() error {
		answer, err := t.ask("who")
		if err != nil {
			return fmt.Errorf("child %d does not answer: %w", pid, err)
		}
		want.Asked++
		var got kin
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			return fmt.Errorf("child %d answered %q", pid, answer)
		}
		if got != want {
			return fmt.Errorf("the child was %+v and is %+v", want, got)
		}
		return nil
	}, nil
}

// makeZombie watches a child that has ended and is not waited for.
func makeZombie(environment) (func() error, error) {
	cmd := exec.Command("/proc/self/exe", childMode, "end")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	if _, err := childStatus(pid, 0); err != nil {
		return nil, err
	}
	return func() error {
		status, err := childStatus(pid, unix.WNOHANG)
		if err != nil || status != exitEarly {
			return fmt.Errorf("the zombie %d had the exit status %d and has %d: %v", pid, exitEarly, status, err)
		}
		return nil
	}, nil
}

// childStatus reads the exit status of a child and leaves it a zombie.
func childStatus(pid, options int) (int32, error) {
	var info struct {
		signo, errno, code, _ int32
		pid, uid, status      int32
		_                     [100]byte
	}
	for {
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), uintptr(unsafe.Pointer(&info)), uintptr(unix.WEXITED|unix.WNOWAIT|options), 0, 0)
		if errno == 0 {
			return info.status, nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// makeStopped watches a child that a signal has stopped.
func makeStopped(environment) (func() error, error) {
	t, err := startTalker(syscall.SysProcAttr{}, "/proc/self/exe", childMode)
	if err != nil {
		return nil, err
	}
	pid := t.cmd.Process.Pid
	if _, err := t.ask("ready"); err != nil {
		return nil, err
	}
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return nil, err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		return nil, fmt.Errorf("the child did not stop: %v, %w", status, err)
	}
	return func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		// After the name in parentheses: state, parent.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 || string(fields[0]) != "T" || string(fields[1]) != fmt.Sprint(os.Getpid()) {
			return fmt.Errorf("child %d was stopped and is %s", pid, stat)
		}
		return nil
	}, nil
}

// makePipeline sends lines through two shells.
func makePipeline(environment) (func() error, error) {
	const loop = `while read -r line; do echo "$line"; done`
	t, err := startTalker(syscall.SysProcAttr{}, "/bin/sh", "-c", loop+" | { n=0; while read -r line; do n=$((n + 1)); echo \"$n $line\"; done; }")
	if err != nil {
		return nil, err
	}
	lines := 0
	return func() error {
		lines++
		want := fmt.Sprintf("%d line %d", lines, lines*7)
		got, err := t.ask(fmt.Sprintf("line %d", lines*7))
		if err != nil || got != want {
			return fmt.Errorf("the pipeline answered %q instead of %q: %v", got, want, err)
		}
		return nil
	}, nil
}
