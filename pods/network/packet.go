package network

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// vnetHeader is the length of struct virtio_net_hdr, which precedes every frame on our packet sockets. On a veth a checksum
// is often not filled in and a TCP segment may be 64 KB long; the header says so on the way out of the kernel and back in.
const vnetHeader = 10

const (
	maxFrame      = 128 << 10 // bytes; the kernel's largest segment is 64 KB unless BIG TCP was switched on
	receiveBuffer = 16 << 20  // bytes of skbs that may wait for a reader
	etherHeader   = 14
)

// openPacket returns a packet socket on the link of that index in ns. With protocol 0 it only sends. With ETH_P_ALL it
// receives whatever arrives, before a bridge sees it; with any other protocol it receives what no bridge took.
func openPacket(ns netns.NsHandle, index int, protocol uint16) (*os.File, error) {
	var fd int
	err := within(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := preparePacket(fd, index, protocol); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "packet"), nil
}

func preparePacket(fd, index int, protocol uint16) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("ask packet socket for offload headers: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("keep packet socket from reading its own frames: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return fmt.Errorf("enlarge receive buffer of packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(protocol), Ifindex: index}); err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	return nil
}

// deafen makes a packet socket receive nothing until hear.
func deafen(socket *os.File) error {
	return filter(socket, []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}})
}

// hearAddressed makes a packet socket receive what comes from now on and is sent to one MAC alone.
func hearAddressed(socket *os.File) error {
	return filter(socket, []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 1, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	})
}

// filter puts a program in the place of the one that a socket has.
func filter(socket *os.File, program []unix.SockFilter) error {
	return onSocket(socket, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

// hear makes a packet socket receive all that comes from now on.
func hear(socket *os.File) error {
	return onSocket(socket, func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil // it hears already
		}
		return err
	})
}

func onSocket(socket *os.File, do func(fd int) error) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var derr error
	if err := raw.Control(func(fd uintptr) { derr = do(int(fd)) }); err != nil {
		return err
	}
	return derr
}

// sendFrame writes a frame with its offload header. The kernel queues at most net.core.netdev_max_backlog frames for the
// other end of a veth and then refuses; it is given a moment to catch up.
func sendFrame(to *os.File, frame []byte) error {
	for attempt := 0; ; attempt++ {
		_, err := to.Write(frame)
		if !errors.Is(err, unix.ENOBUFS) || attempt == 200 {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// readFrames hands every frame that comes to accept, until the socket is closed or its link is gone.
func readFrames(from *os.File, counted *flow, accept func(frame []byte)) {
	buffer := make([]byte, maxFrame)
	for {
		length, err := from.Read(buffer)
		switch {
		case errors.Is(err, unix.EINVAL): // a kind of segment that the offload header cannot describe
			counted.miss(1)
		case err != nil:
			return
		case length == len(buffer): // cut off
			counted.miss(1)
		case length > vnetHeader:
			accept(buffer[:length])
		}
	}
}

// closeAll closes the sockets that were opened, side by side: for each the kernel waits some 10 ms until no processor uses it.
func closeAll(sockets ...*os.File) {
	var closing sync.WaitGroup
	for _, socket := range sockets {
		if socket != nil {
			closing.Go(func() { socket.Close() })
		}
	}
	closing.Wait()
}

func setMark(socket *os.File, mark int) error {
	return onSocket(socket, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark) })
}

// plain puts an empty offload header before a complete frame.
func plain(frame []byte) []byte {
	return append(make([]byte, vnetHeader, vnetHeader+len(frame)), frame...)
}

// lost returns the number of frames that the kernel could not queue for the socket.
func lost(socket *os.File) (dropped int64) {
	_ = onSocket(socket, func(fd int) error {
		stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			dropped = int64(stats.Drops)
		}
		return err
	})
	return dropped
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
