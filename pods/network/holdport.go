package network

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// open makes the holding port and starts to read. The port joins the bridge last, when everything behind it is ready.
func (h *Hold) open() error {
	n := h.network
	_, inside, done, err := open(n.Path())
	if err != nil {
		return err
	}
	h.addrs, err = unicastAddresses(inside)
	done()
	if err != nil {
		return err
	}
	port, tap, err := n.makeHoldingPort()
	if err != nil {
		return err
	}
	h.port = port
	if err := h.openSockets(tap); err != nil {
		return err
	}
	h.in.to, h.out.to = h.toPod, h.toNet
	h.readers.Go(func() { readFrames(h.tap, &h.in, h.acceptFromNet) })
	for _, socket := range h.outer {
		h.readers.Go(func() { readFrames(socket, &h.out, h.out.accept) })
	}
	if err := n.host.enslave(h.port, n.cfg.Bridge); err != nil {
		return err
	}
	return errors.Join(awaitUp(n.host.nl, h.port.Attrs().Name), awaitUp(n.host.nl, tap.Attrs().Name))
}

// makeHoldingPort makes a veth pair: the end that is to be the bridge's port, and the one that is read.
func (n *Network) makeHoldingPort() (port, tap netlink.Link, err error) {
	handle := n.host.nl
	portName, tapName := holdName(n.cfg.Pod), tapName(n.cfg.Pod)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = portName, n.cfg.mtu(), outerMAC(portName)
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: tapName, PeerHardwareAddr: outerMAC(tapName)}
	if err := handle.LinkAdd(pair); err != nil {
		return nil, nil, fmt.Errorf("make holding port %s: %w", portName, err)
	}
	var links [2]netlink.Link
	for i, name := range []string{portName, tapName} {
		link, err := handle.LinkByName(name)
		if err != nil {
			return nil, nil, fmt.Errorf("look up %s: %w", name, err)
		}
		if err := handle.LinkSetAlias(link, label(n.cfg.Pod, "")); err != nil {
			return nil, nil, fmt.Errorf("label %s: %w", name, err)
		}
		if err := quieten(n.host.ns, n.host.nl, link); err != nil {
			return nil, nil, err
		}
		links[i] = link
	}
	if err := handle.LinkSetUp(links[1]); err != nil {
		return nil, nil, fmt.Errorf("set %s up: %w", tapName, err)
	}
	return links[0], links[1], nil
}

// openSockets opens what is read and written. The pod's outer end is read per protocol, not with ETH_P_ALL: such a socket
// gets exactly the frames that no bridge took, so that plugging in hands over between two frames, with none lost or doubled.
func (h *Hold) openSockets(tap netlink.Link) error {
	n := h.network
	outer, err := n.outer()
	if err != nil {
		return err
	}
	ends := []struct {
		socket   **os.File
		link     netlink.Link
		protocol uint16
	}{
		{&h.tap, tap, unix.ETH_P_ALL},
		{&h.toNet, tap, 0},
		{&h.toPod, outer, 0},
	}
	for _, protocol := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6, unix.ETH_P_ARP} {
		socket, err := openPacket(n.host.ns, outer.Attrs().Index, protocol)
		if err != nil {
			return fmt.Errorf("%s: %w", outer.Attrs().Name, err)
		}
		h.outer = append(h.outer, socket)
	}
	for _, end := range ends {
		if *end.socket, err = openPacket(n.host.ns, end.link.Attrs().Index, end.protocol); err != nil {
			return fmt.Errorf("%s: %w", end.link.Attrs().Name, err)
		}
	}
	if err := deafen(h.tap); err != nil {
		return fmt.Errorf("%s: keep frames from coming: %w", tap.Attrs().Name, err)
	}
	return nil
}

// acceptFromNet sorts what the bridge sends to the holding port.
func (h *Hold) acceptFromNet(buffer []byte) {
	frame, mac := buffer[vnetHeader:], h.network.cfg.MAC
	if !concerns(frame, mac) || (h.joined.Load() && isGroup(frame)) {
		return
	}
	if h.in.isKeeping() {
		if reply := answer(frame, mac, h.addrs); reply != nil {
			if sendFrame(h.toNet, plain(reply)) == nil {
				h.answered.Add(1)
			}
			return
		}
	}
	h.in.accept(buffer)
}

// finish ends the hold: the flows first, so that nothing is delivered late, then the port, then the sockets.
func (h *Hold) finish(end error) error {
	h.in.end()
	h.out.end()
	n := h.network
	if err := endDetour(context.Background(), n.host.ns, n.cfg.Pod); err != nil {
		return err
	}
	if err := n.host.deleteLink(n.cfg.Pod, holdName(n.cfg.Pod)); err != nil {
		return err
	}
	if h.tap != nil {
		h.in.miss(lost(h.tap))
	}
	for _, socket := range h.outer {
		h.out.miss(lost(socket))
	}
	closeAll(append(h.outer, h.tap, h.toPod, h.toNet)...)
	h.readers.Wait()
	h.over, h.end = true, end
	return nil
}
