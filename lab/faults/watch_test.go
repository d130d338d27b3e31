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

	// These belong to the goroutine that asks, until it is done.
	asked  int
	double []string
	macs   map[string]int
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
	answered := make(map[netip.Addr]int)
	for n := 0; ctx.Err() == nil; n++ {
		delete(answered, asker(n))
		if _, err := unix.Write(w.fd, arpRequest(mac, asker(n), pod)); err != nil {
			continue
		}
		w.asked++
		w.collect(time.Now().Add(askEvery), pod, answered)
	}
}

// collect takes in who says that he has the pod's address, until a time.
func (w *watch) collect(end time.Time, pod netip.Addr, answered map[netip.Addr]int) {
	buf := make([]byte, 128)
	for time.Now().Before(end) {
		n, err := unix.Read(w.fd, buf)
		if err != nil || n < 42 || binary.BigEndian.Uint16(buf[20:]) != 2 {
			continue
		}
		sender, _ := netip.AddrFromSlice(buf[28:32])
		target, _ := netip.AddrFromSlice(buf[38:42])
		if sender != pod || target.Compare(asker(0)) < 0 || target.Compare(asker(askers-1)) > 0 {
			continue // an announcement, or an answer to another's question
		}
		w.macs[net.HardwareAddr(buf[22:28]).String()]++
		if answered[target]++; answered[target] > 1 {
			w.double = append(w.double, fmt.Sprintf("%s: question of %s", time.Now().Format("15:04:05.000"), target))
		}
	}
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

func arpRequest(mac net.HardwareAddr, asker, pod netip.Addr) []byte {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	frame = append(append(frame, mac...), asker.AsSlice()...)
	return append(append(frame, 0, 0, 0, 0, 0, 0), pod.AsSlice()...)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
