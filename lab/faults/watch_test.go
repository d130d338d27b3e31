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

	"golang.org/x/sys/unix"
)

// watch asks the network again and again who has the pod's address, as a third party, and counts the answers to each
// question.
type watch struct {
	fd     int
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	asked  int
	double []string
	macs   map[string]int
}

// askEvery is the time between two questions; answers that come within it belong to the first.
const askEvery = 20 * time.Millisecond

// asker is an address that nobody has, so that no one else's questions are answered to it.
var asker = netip.MustParseAddr("10.77.0.250")

func (s *scene) startWatch(ctx context.Context, address string) (*watch, error) {
	w := &watch{macs: make(map[string]int)}
	var link *net.Interface
	err := s.InNetNS(lab.ClientNode, func() (err error) {
		if link, err = net.InterfaceByName("eth0"); err != nil {
			return err
		}
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ARP)))
		if err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: link.Index})
	})
	if err != nil {
		return nil, fmt.Errorf("watch the address: %w", err)
	}
	pod, err := netip.ParseAddr(address)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: int64(askEvery / time.Microsecond)}); err != nil {
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.done.Go(func() { w.run(ctx, link.HardwareAddr, pod) })
	return w, nil
}

func (w *watch) run(ctx context.Context, mac net.HardwareAddr, pod netip.Addr) {
	question := arpRequest(mac, pod)
	for ctx.Err() == nil {
		if _, err := unix.Write(w.fd, question); err != nil {
			continue
		}
		answers := w.collect(time.Now().Add(askEvery), pod)
		w.mu.Lock()
		w.asked++
		for _, answer := range answers {
			w.macs[answer]++
		}
		if len(answers) > 1 {
			w.double = append(w.double, fmt.Sprintf("%s: %v", time.Now().Format("15:04:05.000"), answers))
		}
		w.mu.Unlock()
	}
}

// collect is who says that he has the pod's address, until a time.
func (w *watch) collect(end time.Time, pod netip.Addr) (answers []string) {
	buf := make([]byte, 128)
	for time.Now().Before(end) {
		n, err := unix.Read(w.fd, buf)
		if err != nil || n < 42 || binary.BigEndian.Uint16(buf[20:]) != 2 {
			continue
		}
		sender, _ := netip.AddrFromSlice(buf[28:32])
		target, _ := netip.AddrFromSlice(buf[38:42])
		if sender == pod && target == asker {
			answers = append(answers, net.HardwareAddr(buf[22:28]).String())
		}
	}
	return answers
}

// stop ends the watch, and says if two ever answered.
func (w *watch) stop() error {
	w.cancel()
	w.done.Wait()
	_ = unix.Close(w.fd)
	var errs []error
	if len(w.double) > 0 {
		errs = append(errs, fmt.Errorf("two hosts had the pod's address: %v", w.double))
	}
	if len(w.macs) != 1 {
		errs = append(errs, fmt.Errorf("the pod's address was answered by %v in %d questions", w.macs, w.asked))
	}
	return errors.Join(errs...)
}

func arpRequest(mac net.HardwareAddr, pod netip.Addr) []byte {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	frame = append(append(frame, mac...), asker.AsSlice()...)
	return append(append(frame, 0, 0, 0, 0, 0, 0), pod.AsSlice()...)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
