package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// thread is an operating system thread of its own, with a signal mask that the rest of the program does not have.
type thread struct {
	id    int
	name  string
	tasks chan func()
}

// newThread starts a thread that blocks the given signals.
func newThread(name string, blocked ...int) (*thread, error) {
	t := &thread{name: name, tasks: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever
		t.id = unix.Gettid()
		ready <- t.prepare(blocked)
		for task := range t.tasks {
			task()
		}
	}()
	return t, <-ready
}

func (t *thread) prepare(blocked []int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", t.id), []byte(t.name), 0); err != nil {
		return err
	}
	set := signalSet(blocked...)
	return unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}

// do runs f on the thread and waits for it.
func (t *thread) do(f func() error) error {
	done := make(chan error)
	t.tasks <- func() { done <- f() }
	return <-done
}

// signalSet is a set of signals; on all architectures signal n is bit n-1.
func signalSet(signals ...int) unix.Sigset_t {
	var set unix.Sigset_t
	for _, s := range signals {
		set.Val[(s-1)/64] |= 1 << ((s - 1) % 64)
	}
	return set
}

const sigsetSize = 8 // as the kernel counts it

// siginfo is the kernel's siginfo_t as a queued signal and a POSIX timer fill it in, on 64 bit.
type siginfo struct {
	signo, errno, code, _ int32
	from, by              int32 // sender's process and user; timer and its overrun
	value                 uint64
	_                     [96]byte
}

const siQueue = -1

// queueSignal sends a signal with a value to this very thread.
func queueSignal(signo int, value uint64) error {
	info := siginfo{signo: int32(signo), code: siQueue, from: int32(os.Getpid()), by: int32(os.Getuid()), value: value}
	_, _, errno := unix.Syscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(os.Getpid()), uintptr(unix.Gettid()), uintptr(signo), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("queue signal %d: %w", signo, errno)
	}
	return nil
}

// takeSignal takes a pending signal of this thread, waiting for it for so long; an error of EAGAIN says that none came.
func takeSignal(signo int, wait unix.Timespec) (siginfo, error) {
	var info siginfo
	set := signalSet(signo)
	for {
		_, _, errno := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&wait)), sigsetSize, 0, 0)
		if errno == 0 {
			return info, nil
		}
		if errno != unix.EINTR {
			return info, errno
		}
	}
}

// makeThreads watches the numbers, names and signal masks of three threads.
func makeThreads(environment) (func() error, error) {
	var threads []*thread
	for i := range 3 {
		t, err := newThread(fmt.Sprintf("watched-%d", i), 40+i)
		if err != nil {
			return nil, err
		}
		threads = append(threads, t)
	}
	return func() error {
		for i, t := range threads {
			if err := t.do(func() error { return t.unchanged(40 + i) }); err != nil {
				return fmt.Errorf("thread %d: %w", i, err)
			}
		}
		return nil
	}, nil
}

func (t *thread) unchanged(blocked int) error {
	if id := unix.Gettid(); id != t.id {
		return fmt.Errorf("its number was %d and is %d", t.id, id)
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/comm", t.id))
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(name)) != t.name {
		return fmt.Errorf("its name was %q and is %q", t.name, name)
	}
	var mask unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask); err != nil {
		return err
	}
	if want := signalSet(blocked); mask.Val[0]&want.Val[0] == 0 {
		return errors.New("its signal mask changed")
	}
	return nil
}
