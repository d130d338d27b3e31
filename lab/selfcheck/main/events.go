package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// readExactly reads as much as is wanted within a time that only a lost connection exceeds, and compares.
func readExactly(conn net.Conn, want []byte) error {
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("what was on its way changed")
	}
	return nil
}

// counter is an eventfd.
type counter int

func newCounter(value uint, flags int) (counter, error) {
	fd, err := unix.Eventfd(value, flags|unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	return counter(fd), err
}

func (c counter) add(value uint64) error {
	_, err := unix.Write(int(c), binary.NativeEndian.AppendUint64(nil, value))
	return err
}

func (c counter) take() (uint64, error) {
	var value [8]byte
	if _, err := unix.Read(int(c), value[:]); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(value[:]), nil
}

func makeEventFD(environment) (func() error, error) {
	const value = 424242
	plain, err := newCounter(0, 0)
	if err != nil {
		return nil, err
	}
	return func() error {
		if found, err := plain.take(); err != nil || found != value {
			return fmt.Errorf("the value was %d and is %d: %v", value, found, err)
		}
		return plain.add(value)
	}, plain.add(value)
}

// makeSemaphore watches an eventfd whose value is taken one by one.
func makeSemaphore(environment) (func() error, error) {
	semaphore, err := newCounter(0, unix.EFD_SEMAPHORE)
	if err != nil {
		return nil, err
	}
	return func() error {
		if found, err := semaphore.take(); err != nil || found != 1 {
			return fmt.Errorf("one read took %d instead of 1: %v", found, err)
		}
		return semaphore.add(1)
	}, semaphore.add(3)
}

// interest is an epoll set with one ready descriptor, an edge-triggered one that is not ready, and one that has fired its
// only shot.
type interest struct {
	set               int
	ready, edge, once counter
}

// Data of the entries in the set.
const (
	readyData = 11
	edgeData  = 22
	onceData  = 33
)

func makeEpoll(environment) (func() error, error) {
	i := &interest{}
	var err error
	if i.set, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for _, entry := range []struct {
		counter *counter
		value   uint
		events  uint32
		data    int32
	}{
		{&i.ready, 1, unix.EPOLLIN, readyData},
		{&i.edge, 0, unix.EPOLLIN | unix.EPOLLET&0xffffffff, edgeData},
		{&i.once, 1, unix.EPOLLIN | unix.EPOLLONESHOT, onceData},
	} {
		if *entry.counter, err = newCounter(entry.value, 0); err != nil {
			return nil, err
		}
		event := unix.EpollEvent{Events: entry.events, Fd: entry.data}
		if err := unix.EpollCtl(i.set, unix.EPOLL_CTL_ADD, int(*entry.counter), &event); err != nil {
			return nil, err
		}
	}
	if err := i.expect(readyData, onceData); err != nil {
		return nil, err
	}
	return i.verify, nil
}

func (i *interest) verify() error {
	if err := i.expect(readyData); err != nil {
		return fmt.Errorf("at rest: %w", err)
	}
	if err := i.edge.add(1); err != nil {
		return err
	}
	if err := i.expect(readyData, edgeData); err != nil {
		return fmt.Errorf("after an edge: %w", err)
	}
	if _, err := i.edge.take(); err != nil {
		return err
	}
	return i.expect(readyData)
}

// expect polls once and compares which entries are reported.
func (i *interest) expect(data ...int32) error {
	events := make([]unix.EpollEvent, 8)
	n, err := unix.EpollWait(i.set, events, 0)
	if err != nil {
		return err
	}
	found := map[int32]bool{}
	for _, event := range events[:n] {
		found[event.Fd] = true
	}
	for _, want := range data {
		if !found[want] {
			return fmt.Errorf("entry %d is not reported, only %v", want, found)
		}
	}
	if n != len(data) {
		return fmt.Errorf("entries %v are reported, and not %v", found, data)
	}
	return nil
}

// Signals that only one thread each of the program blocks.
const (
	pendingSignal  = 45
	signalFDSignal = 46
	timerSignal    = 47
)

// makePendingSignals keeps two signals with values pending at a thread that blocks them.
func makePendingSignals(environment) (func() error, error) {
	t, err := newThread("pending", pendingSignal)
	if err != nil {
		return nil, err
	}
	send := func() error { return errors.Join(queueSignal(pendingSignal, 1001), queueSignal(pendingSignal, 1002)) }
	verify := func() error {
		for _, want := range []uint64{1001, 1002} {
			info, err := takeSignal(pendingSignal, unix.Timespec{})
			if err != nil {
				return fmt.Errorf("the signal with the value %d is not pending: %w", want, err)
			}
			if info.value != want || info.code != siQueue {
				return fmt.Errorf("the pending signal had the value %d and has %d", want, info.value)
			}
		}
		if _, err := takeSignal(pendingSignal, unix.Timespec{}); !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("a third signal is pending: %v", err)
		}
		return send()
	}
	return func() error { return t.do(verify) }, t.do(send)
}

// makeSignalFD keeps a signal pending that a signalfd delivers.
func makeSignalFD(environment) (func() error, error) {
	t, err := newThread("signalfd", signalFDSignal)
	if err != nil {
		return nil, err
	}
	set := signalSet(signalFDSignal)
	fd, err := unix.Signalfd(-1, &set, unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	send := func() error { return queueSignal(signalFDSignal, 2001) }
	verify := func() error {
		// signalfd_siginfo: the number at 0, the value as an integer at 44.
		info := make([]byte, 128)
		if n, err := unix.Read(fd, info); err != nil || n != len(info) {
			return fmt.Errorf("the signal is not delivered: %v", err)
		}
		number, value := binary.NativeEndian.Uint32(info), binary.NativeEndian.Uint32(info[44:])
		if number != signalFDSignal || value != 2001 {
			return fmt.Errorf("signal %d with the value %d is delivered", number, value)
		}
		return send()
	}
	return func() error { return t.do(verify) }, t.do(send)
}
