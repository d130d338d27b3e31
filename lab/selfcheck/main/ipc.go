package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Keys of the SysV objects. Each belongs to one IPC namespace, so they collide with nothing.
const (
	shmKey = 0x6472_7901
	semKey = 0x6472_7902
	msgKey = 0x6472_7903

	ipcMode = 0o600 | unix.IPC_CREAT
)

// pattern is content that is easy to recognise and differs by seed.
func pattern(seed byte, size int) []byte {
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i)*31 ^ byte(i>>8) ^ seed
	}
	return content
}

func makeSysVShm(environment) (func() error, error) {
	want := pattern(1, 64<<10)
	id, err := unix.SysvShmGet(shmKey, len(want), ipcMode)
	if err != nil {
		return nil, fmt.Errorf("shmget: %w", err)
	}
	memory, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("shmat: %w", err)
	}
	copy(memory, want)
	return func() error {
		if found, err := unix.SysvShmGet(shmKey, 0, 0); err != nil || found != id {
			return fmt.Errorf("the id of the key was %d and is %d: %v", id, found, err)
		}
		var info unix.SysvShmDesc
		if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &info); err != nil {
			return fmt.Errorf("segment %d: %w", id, err)
		}
		if info.Nattch != 1 {
			return fmt.Errorf("segment %d was attached once and is %d times", id, info.Nattch)
		}
		if !bytes.Equal(memory, want) {
			return errors.New("its content changed")
		}
		return nil
	}, nil
}

// Commands of semctl.
const (
	semGetAll = 13
	semSetAll = 17
)

func makeSysVSem(environment) (func() error, error) {
	want := [3]uint16{7, 0, 4242}
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, semKey, uintptr(len(want)), ipcMode)
	if errno != 0 {
		return nil, fmt.Errorf("semget: %w", errno)
	}
	if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, id, 0, semSetAll, uintptr(unsafe.Pointer(&want)), 0, 0); errno != 0 {
		return nil, fmt.Errorf("semctl: %w", errno)
	}
	return func() error {
		found, _, errno := unix.Syscall(unix.SYS_SEMGET, semKey, 0, 0)
		if errno != 0 || found != id {
			return fmt.Errorf("the id of the key was %d and is %d: %v", id, found, errno)
		}
		var values [3]uint16
		if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, id, 0, semGetAll, uintptr(unsafe.Pointer(&values)), 0, 0); errno != 0 {
			return fmt.Errorf("read set %d: %w", id, errno)
		}
		if values != want {
			return fmt.Errorf("the values were %v and are %v", want, values)
		}
		return nil
	}, nil
}

// message is a SysV message with room for 32 bytes.
type message struct {
	kind int64
	text [32]byte
}

func makeSysVMsg(environment) (func() error, error) {
	id, _, errno := unix.Syscall(unix.SYS_MSGGET, msgKey, ipcMode, 0)
	if errno != 0 {
		return nil, fmt.Errorf("msgget: %w", errno)
	}
	want := []message{{kind: 3}, {kind: 1}, {kind: 9}}
	for i := range want {
		copy(want[i].text[:], pattern(byte(i), 32))
	}
	queue := &messageQueue{id: id, want: want}
	return queue.verify, queue.send()
}

type messageQueue struct {
	id   uintptr
	want []message
}

func (q *messageQueue) send() error {
	for _, m := range q.want {
		if _, _, errno := unix.Syscall6(unix.SYS_MSGSND, q.id, uintptr(unsafe.Pointer(&m)), 32, unix.IPC_NOWAIT, 0, 0); errno != 0 {
			return fmt.Errorf("msgsnd: %w", errno)
		}
	}
	return nil
}

// verify takes the messages out in order, and puts them in again.
func (q *messageQueue) verify() error {
	found, _, errno := unix.Syscall(unix.SYS_MSGGET, msgKey, 0, 0)
	if errno != 0 || found != q.id {
		return fmt.Errorf("the id of the key was %d and is %d: %v", q.id, found, errno)
	}
	for i, want := range q.want {
		var m message
		n, _, errno := unix.Syscall6(unix.SYS_MSGRCV, q.id, uintptr(unsafe.Pointer(&m)), 32, 0, unix.IPC_NOWAIT, 0)
		if errno != 0 {
			return fmt.Errorf("message %d of queue %d: %w", i, q.id, errno)
		}
		if n != 32 || m != want {
			return fmt.Errorf("message %d changed", i)
		}
	}
	return q.send()
}

func makePOSIXShm(environment) (func() error, error) {
	const name = "/dev/shm/selfcheck"
	want := pattern(2, 128<<10)
	if err := os.WriteFile(name, want, 0o600); err != nil {
		return nil, err
	}
	memory, err := mapFile(name, len(want), unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return func() error {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !bytes.Equal(memory, want) || !bytes.Equal(content, want) {
			return errors.New("its content changed")
		}
		memory[0]++ // must be seen in the file
		if content, err = os.ReadFile(name); err != nil {
			return err
		}
		want[0] = memory[0]
		if content[0] != want[0] {
			return errors.New("the mapping is no longer of the file")
		}
		return nil
	}, nil
}

func mapFile(name string, size, flags int) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return memory, nil
}
