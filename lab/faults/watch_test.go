//go:build faults

package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"drydock/lab"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// watch asks the network again and again who has the pod's address, as a third party, and looks at the switch from which
// hosts each question is answered. That one host answers twice is no harm: a frame may take two ways while a pod is plugged in.
type watch struct {
	question, answers int // sockets: at the client, and at the switch
	ports             *netlink.Handle
	cancel            context.CancelFunc
	done              sync.WaitGroup

	// These belong to the goroutine that asks, until it is done.
	asked  int
	double []string
	macs   map[string]int
	names  map[int]string
}

// askEvery is the time between two questions.
const askEvery = 20 * time.Millisecond

// askers is how many addresses that nobody has take turns at asking, so that an answer tells which question it is for, also
// where it comes late.
const askers = 64

func asker(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, 0, byte(256 - askers + n%askers)})
}

func (s *scene) startWatch(ctx context.Context, address string) (*watch, error) {
	pod, err := netip.ParseAddr(address)
	if err != nil {
		return nil, err
	}
	w := &watch{question: -1, answers: -1, macs: make(map[string]int), names: make(map[int]string)}
	var link *net.Interface
	err = s.InNetNS(lab.ClientNode, func() (err error) {
		if link, err = net.InterfaceByName("eth0"); err != nil {
			return err
		}
		if w.question, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(w.question, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: link.Index})
	})
	if err == nil {
		err = s.InNetNS("switch", w.listen)
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("watch the address: %w", err)
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.done.Go(func() { w.run(ctx, link.HardwareAddr, pod) })
	return w, nil
}

// listen hears every ARP frame that passes the switch. A port of a bridge shows its frames only to those who want all, so
// the kernel is told to leave out the others.
func (w *watch) listen() (err error) {
	if w.ports, err = netlink.NewHandle(); err != nil {
		return err
	}
	if w.answers, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_ARP, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 128},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return errors.Join(
		unix.SetsockoptSockFprog(w.answers, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
		unix.SetsockoptTimeval(w.answers, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: int64(askEvery / time.Microsecond)}),
		unix.Bind(w.answers, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL)}),
	)
}

func (w *watch) run(ctx context.Context, mac net.HardwareAddr, pod netip.Addr) {
	answered := make(map[netip.Addr]string)
	for n := 0; ctx.Err() == nil; n++ {
		delete(answered, asker(n))
		if _, err := unix.Write(w.question, arpRequest(mac, asker(n), pod)); err != nil {
			continue
		}
		w.asked++
		w.collect(time.Now().Add(askEvery), pod, answered)
	}
}

// collect takes in who says that he has the pod's address, until a time.
func (w *watch) collect(end time.Time, pod netip.Addr, answered map[netip.Addr]string) {
	buf := make([]byte, 128)
	for time.Now().Before(end) {
		n, from, err := unix.Recvfrom(w.answers, buf, 0)
		if err != nil || n < 42 || binary.BigEndian.Uint16(buf[20:]) != 2 {
			continue
		}
		sender, _ := netip.AddrFromSlice(buf[28:32])
		target, _ := netip.AddrFromSlice(buf[38:42])
		if sender != pod || target.Compare(asker(0)) < 0 || target.Compare(asker(askers-1)) > 0 {
			continue // an announcement, or an answer to another's question
		}
		port, ok := from.(*unix.SockaddrLinklayer)
		if !ok || port.Pkttype == unix.PACKET_OUTGOING {
			continue // the switch sends on what it has received
		}
		w.macs[net.HardwareAddr(buf[22:28]).String()]++
		host := w.name(port.Ifindex)
		if before := answered[target]; before != "" && before != host {
			w.double = append(w.double, fmt.Sprintf("%s: %s and %s answered %s", time.Now().Format("15:04:05.000"), before, host, target))
		}
		answered[target] = host
	}
}

// name is that of a port of the switch. A host that boots gets a new port with a new number.
func (w *watch) name(port int) string {
	if w.names[port] == "" {
		w.names[port] = fmt.Sprint("port ", port)
		if link, err := w.ports.LinkByIndex(port); err == nil {
			w.names[port] = link.Attrs().Name
		}
	}
	return w.names[port]
}

func (w *watch) close() {
	for _, fd := range []*int{&w.question, &w.answers} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
		}
		*fd = -1
	}
	if w.ports != nil {
		w.ports.Close()
		w.ports = nil
	}
}

// end ends the watch. It may be called again.
func (w *watch) end() {
	w.cancel()
	w.done.Wait()
	w.close()
}

// stop ends the watch, and says if two ever answered.
func (w *watch) stop() error {
	w.end()
	var errs []error
	if len(w.double) > 0 {
		errs = append(errs, fmt.Errorf("two hosts had the pod's address: %v", w.double))
	}
	if len(w.macs) != 1 {
		errs = append(errs, fmt.Errorf("the pod's address was answered by %v in %d questions", w.macs, w.asked))
	}
	return errors.Join(errs...)
}

func arpRequest(mac net.HardwareAddr, asker, pod netip.Addr) []byte {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	frame = append(append(frame, mac...), asker.AsSlice()...)
	return append(append(frame, 0, 0, 0, 0, 0, 0), pod.AsSlice()...)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
