package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// inFlight is data that was written at one end and not yet read at the other.
type inFlight struct {
	write, read int // descriptors
	pieces      [][]byte
	messages    bool // each piece keeps its bounds
}

func (f *inFlight) send() error {
	for i, piece := range f.pieces {
		if n, err := unix.Write(f.write, piece); err != nil || n != len(piece) {
			return fmt.Errorf("write piece %d: %d bytes of %d: %v", i, n, len(piece), err)
		}
	}
	return nil
}

// verify reads what is on its way, and sends it again.
func (f *inFlight) verify() error {
	if f.messages {
		for i, piece := range f.pieces {
			got := make([]byte, len(piece)+1)
			if n, err := unix.Read(f.read, got); err != nil || !bytes.Equal(got[:n], piece) {
				return fmt.Errorf("message %d of %d bytes came as %d: %v", i, len(piece), n, err)
			}
		}
		return f.send()
	}
	want := bytes.Join(f.pieces, nil)
	waiting, err := unix.IoctlGetInt(f.read, unix.TIOCINQ)
	if err != nil || waiting != len(want) {
		return fmt.Errorf("%d bytes were on their way and %d are: %v", len(want), waiting, err)
	}
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		n, err := unix.Read(f.read, got[len(got):cap(got)])
		if err != nil || n == 0 {
			return fmt.Errorf("after %d of %d bytes: %v", len(got), len(want), err)
		}
		got = got[:len(got)+n]
	}
	if !bytes.Equal(got, want) {
		return errors.New("what was on its way changed")
	}
	return f.send()
}

func makePipe(environment) (func() error, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	size, err := unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, 32<<10)
	if err != nil {
		return nil, err
	}
	f := &inFlight{read: ends[0], write: ends[1], pieces: [][]byte{pattern(8, 5000), pattern(9, 77)}}
	return func() error {
		if now, err := unix.FcntlInt(uintptr(ends[0]), unix.F_GETPIPE_SZ, 0); err != nil || now != size {
			return fmt.Errorf("the pipe had room for %d bytes and has for %d: %v", size, now, err)
		}
		return f.verify()
	}, f.send()
}

func makeUnixStream(environment) (func() error, error) {
	return makeSocketPair(unix.SOCK_STREAM, false)
}

func makeUnixPackets(environment) (func() error, error) {
	return makeSocketPair(unix.SOCK_SEQPACKET, true)
}

func makeSocketPair(kind int, messages bool) (func() error, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	there := &inFlight{read: ends[0], write: ends[1], pieces: [][]byte{pattern(10, 3000), pattern(11, 1), pattern(12, 400)}, messages: messages}
	back := &inFlight{read: ends[1], write: ends[0], pieces: [][]byte{pattern(13, 900)}, messages: messages}
	return func() error { return errors.Join(there.verify(), back.verify()) }, errors.Join(there.send(), back.send())
}

// makeTCP watches a connection of the program with itself, with data waiting at both ends.
func makeTCP(env environment) (func() error, error) {
	listener, err := listen(env.ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	out, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	in, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	ports := fmt.Sprint(out.LocalAddr(), out.RemoteAddr())
	ends := [2]*net.TCPConn{out.(*net.TCPConn), in.(*net.TCPConn)}
	var queued [2][]byte
	queued[0], queued[1] = pattern(14, 6000), pattern(15, 300)
	send := func() error {
		_, errOut := ends[0].Write(queued[0])
		_, errIn := ends[1].Write(queued[1])
		return errors.Join(errOut, errIn)
	}
	return func() error {
		if now := fmt.Sprint(out.LocalAddr(), out.RemoteAddr()); now != ports {
			return fmt.Errorf("the ends were %s and are %s", ports, now)
		}
		for i, end := range ends {
			if err := readExactly(end, queued[1-i]); err != nil {
				return fmt.Errorf("end %d: %w", i, err)
			}
		}
		return send()
	}, send()
}
