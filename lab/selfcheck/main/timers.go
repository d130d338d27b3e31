package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	timerEarly  = time.Millisecond // what a timer may be early, for the clock's granularity
	timerLate   = 2 * time.Second  // what it may be late, beside the time that the program stood still
	timerSettle = 100 * time.Millisecond
)

// timer is armed and waited for, over and over. It must not fire before it is due, nor long after.
type timer struct {
	clock  *clock
	period time.Duration
	arm    func(time.Duration) error
	wait   func() error

	mu      sync.Mutex
	armed   time.Duration // when, on CLOCK_MONOTONIC
	failure error
}

func (t *timer) run(env environment) {
	for env.ctx.Err() == nil {
		start := now()
		t.mu.Lock()
		t.armed = start
		t.mu.Unlock()
		if err := t.once(start); err != nil {
			t.mu.Lock()
			t.failure = err
			t.mu.Unlock()
			return
		}
	}
}

func (t *timer) once(start time.Duration) error {
	if err := t.arm(t.period); err != nil {
		return fmt.Errorf("arm: %w", err)
	}
	if err := t.wait(); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	took := now() - start
	if took < t.period-timerEarly {
		return fmt.Errorf("it fired after %v instead of %v", took, t.period)
	}
	return t.tooLate(start, took)
}

func (t *timer) tooLate(start, took time.Duration) error {
	if took < t.period+timerLate {
		return nil
	}
	time.Sleep(timerSettle) // the clock may still have to notice that the program stood still
	if stood := t.clock.stoodStill(start); took > t.period+timerLate+stood {
		return fmt.Errorf("%v are over instead of %v, and the program stood still for only %v of them", took, t.period, stood)
	}
	return nil
}

func (t *timer) verify() error {
	t.mu.Lock()
	start, failure := t.armed, t.failure
	t.mu.Unlock()
	if failure != nil || start == 0 {
		return failure
	}
	return t.tooLate(start, now()-start)
}

func startTimer(env environment, arm func(time.Duration) error, wait func() error) (func() error, error) {
	t := &timer{clock: env.clock, period: 250 * time.Millisecond, arm: arm, wait: wait}
	go t.run(env)
	return t.verify, nil
}

func makeTimerFD(env environment) (func() error, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "timerfd") // in the runtime's own epoll set
	arm := func(d time.Duration) error {
		return unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	}
	wait := func() error {
		var times [8]byte
		if _, err := file.Read(times[:]); err != nil {
			return err
		}
		if n := binary.NativeEndian.Uint64(times[:]); n != 1 {
			return fmt.Errorf("it fired %d times at once", n)
		}
		return nil
	}
	return startTimer(env, arm, wait)
}

func makeIntervalTimer(env environment) (func() error, error) {
	fired := make(chan os.Signal, 1)
	signal.Notify(fired, unix.SIGALRM)
	arm := func(d time.Duration) error {
		_, err := unix.Setitimer(unix.ITIMER_REAL, unix.Itimerval{Value: unix.NsecToTimeval(int64(d))})
		return err
	}
	wait := func() error {
		<-fired
		return nil
	}
	return startTimer(env, arm, wait)
}

// sigevent is the kernel's struct of that name.
type sigevent struct {
	value         uint64
	signo, notify int32
	thread        int32
	_             [44]byte
}

const (
	notifyThread = 4 // SIGEV_THREAD_ID
	timerValue   = 3001
)

// makePOSIXTimer has a timer signal one thread. That the timer keeps its number shows when it is armed again.
func makePOSIXTimer(env environment) (func() error, error) {
	t, err := newThread("timer", timerSignal)
	if err != nil {
		return nil, err
	}
	var id int32
	event := sigevent{value: timerValue, signo: timerSignal, notify: notifyThread, thread: int32(t.id)}
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&id))); errno != 0 {
		return nil, fmt.Errorf("timer_create: %w", errno)
	}
	arm := func(d time.Duration) error {
		due := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
		if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(id), 0, uintptr(unsafe.Pointer(&due)), 0, 0, 0); errno != 0 {
			return fmt.Errorf("timer_settime: %w", errno)
		}
		return nil
	}
	wait := func() error {
		return t.do(func() error {
			info, err := takeSignal(timerSignal, unix.Timespec{Sec: 3600})
			if err == nil && info.value != timerValue {
				err = fmt.Errorf("its signal has the value %d instead of %d", info.value, timerValue)
			}
			return err
		})
	}
	return startTimer(env, arm, wait)
}
