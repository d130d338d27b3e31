package network

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	arpRequest = 1
	arpReply   = 2

	icmpv6MLDReport             = 131
	icmpv6RouterAdvertisement   = 134
	icmpv6NeighborSolicitation  = 135
	icmpv6NeighborAdvertisement = 136
	icmpv6Redirect              = 137

	naSolicited = 0x40
	naOverride  = 0x20
)

var (
	broadcast    = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes     = netip.MustParseAddr("ff02::1")
	ethernetARP4 = []byte{0, 1, 8, 0, 6, 4} // hardware and protocol of an ARP message about IPv4 on Ethernet
)

// announcement returns the frames that tell neighbours and switches that addr is at mac: ARP in both its gratuitous forms
// (some systems believe only one of them), or an unsolicited neighbour advertisement with the report that lets a switch
// which snoops on multicast forward solicitations for addr.
func announcement(mac net.HardwareAddr, addr netip.Addr) [][]byte {
	if addr.Is4() {
		return [][]byte{
			arpFrame(arpRequest, broadcast, mac, addr, make(net.HardwareAddr, 6), addr),
			arpFrame(arpReply, broadcast, mac, addr, mac, addr),
		}
	}
	return [][]byte{
		advertisement(mac, addr, allNodes, multicastMAC(allNodes), naOverride),
		groupReport(mac, solicitedNode(addr)),
	}
}

// answer returns the reply to a frame that asks for one of the addresses, or nil if it does not.
func answer(frame []byte, mac net.HardwareAddr, addrs []netip.Addr) []byte {
	switch etherType(frame) {
	case unix.ETH_P_ARP:
		op, sender, senderIP, target, ok := parseARP(frame)
		if !ok || op != arpRequest || !contains(addrs, target) || bytes.Equal(sender, mac) {
			return nil
		}
		return arpFrame(arpReply, sender, mac, target, sender, senderIP)
	case unix.ETH_P_IPV6:
		kind, body, ok := parseICMPv6(frame)
		if !ok || kind != icmpv6NeighborSolicitation || len(body) < 24 {
			return nil
		}
		target, _ := netip.AddrFromSlice(body[8:24])
		asker, _ := netip.AddrFromSlice(frame[etherHeader+8 : etherHeader+24])
		sender := net.HardwareAddr(frame[6:12])
		if !contains(addrs, target) || bytes.Equal(sender, mac) {
			return nil
		}
		if asker.IsUnspecified() { // duplicate address detection: everybody is to hear that the address is taken
			return advertisement(mac, target, allNodes, multicastMAC(allNodes), naOverride)
		}
		return advertisement(mac, target, asker, sender, naSolicited|naOverride)
	}
	return nil
}

// concerns tells whether a frame is for the pod: sent to its MAC, or to a group and about addresses. Other broadcasts and
// multicasts are not worth the room: nobody may rely on them.
func concerns(frame []byte, mac net.HardwareAddr) bool {
	if len(frame) < etherHeader || bytes.Equal(frame[6:12], mac) {
		return false
	}
	if bytes.Equal(frame[:6], mac) {
		return true
	}
	if frame[0]&1 == 0 {
		return false
	}
	switch etherType(frame) {
	case unix.ETH_P_ARP:
		return true
	case unix.ETH_P_IPV6:
		kind, _, ok := parseICMPv6(frame)
		return ok && kind >= icmpv6RouterAdvertisement && kind <= icmpv6Redirect
	}
	return false
}

func isGroup(frame []byte) bool { return len(frame) > 0 && frame[0]&1 == 1 }

func arpFrame(op uint16, to, sender net.HardwareAddr, senderIP netip.Addr, target net.HardwareAddr, targetIP netip.Addr) []byte {
	frame := etherFrame(to, sender, unix.ETH_P_ARP)
	frame = append(frame, ethernetARP4...)
	frame = binary.BigEndian.AppendUint16(frame, op)
	frame = append(append(frame, sender...), senderIP.AsSlice()...)
	return append(append(frame, target...), targetIP.AsSlice()...)
}

func parseARP(frame []byte) (op uint16, sender net.HardwareAddr, senderIP, target netip.Addr, ok bool) {
	if len(frame) < etherHeader+28 || !bytes.Equal(frame[etherHeader:etherHeader+6], ethernetARP4) {
		return 0, nil, netip.Addr{}, netip.Addr{}, false
	}
	body := frame[etherHeader+6:]
	senderIP, _ = netip.AddrFromSlice(body[8:12])
	target, _ = netip.AddrFromSlice(body[18:22])
	return binary.BigEndian.Uint16(body), net.HardwareAddr(body[2:8]), senderIP, target, true
}

// advertisement is a neighbour advertisement (RFC 4861, 4.4) with the target's link-layer address.
func advertisement(mac net.HardwareAddr, target, to netip.Addr, toMAC net.HardwareAddr, flags byte) []byte {
	body := make([]byte, 8, 32)
	body[0], body[4] = icmpv6NeighborAdvertisement, flags
	body = append(body, target.AsSlice()...)
	body = append(append(body, 2, 1), mac...) // option: target link-layer address, 8 bytes
	return icmpv6Frame(mac, toMAC, target, to, nil, body)
}

// groupReport is a multicast listener report (RFC 2710, 3) with the router alert that it must carry.
func groupReport(mac net.HardwareAddr, group netip.Addr) []byte {
	body := make([]byte, 8, 24)
	body[0] = icmpv6MLDReport
	body = append(body, group.AsSlice()...)
	routerAlert := []byte{unix.IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0}
	return icmpv6Frame(mac, multicastMAC(group), netip.IPv6Unspecified(), group, routerAlert, body)
}

func icmpv6Frame(mac, toMAC net.HardwareAddr, from, to netip.Addr, hopByHop, body []byte) []byte {
	next, hops := byte(unix.IPPROTO_ICMPV6), byte(255)
	if hopByHop != nil {
		next, hops = unix.IPPROTO_HOPOPTS, 1
	}
	frame := etherFrame(toMAC, mac, unix.ETH_P_IPV6)
	frame = append(frame, 0x60, 0, 0, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(hopByHop)+len(body)))
	frame = append(frame, next, hops)
	frame = append(append(frame, from.AsSlice()...), to.AsSlice()...)
	frame = append(frame, hopByHop...)
	binary.BigEndian.PutUint16(body[2:], icmpv6Checksum(from, to, body))
	return append(frame, body...)
}

// parseICMPv6 returns type and body of an ICMPv6 message that directly follows the IPv6 header.
func parseICMPv6(frame []byte) (kind byte, body []byte, ok bool) {
	const header = 40
	if len(frame) < etherHeader+header+8 || frame[etherHeader+6] != unix.IPPROTO_ICMPV6 {
		return 0, nil, false
	}
	body = frame[etherHeader+header:]
	return body[0], body, true
}

func icmpv6Checksum(from, to netip.Addr, body []byte) uint16 {
	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
	pseudo = append(pseudo, 0, 0, 0, unix.IPPROTO_ICMPV6)
	pseudo = append(pseudo, body...)
	if len(pseudo)%2 == 1 {
		pseudo = append(pseudo, 0)
	}
	var sum uint32
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func etherFrame(to, from net.HardwareAddr, kind uint16) []byte {
	frame := make([]byte, 0, 96)
	frame = append(append(frame, to...), from...)
	return binary.BigEndian.AppendUint16(frame, kind)
}

func etherType(frame []byte) uint16 {
	if len(frame) < etherHeader {
		return 0
	}
	return binary.BigEndian.Uint16(frame[12:])
}

func solicitedNode(addr netip.Addr) netip.Addr {
	group, a := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group)
}

func multicastMAC(group netip.Addr) net.HardwareAddr {
	a := group.As16()
	return net.HardwareAddr{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

func contains(addrs []netip.Addr, addr netip.Addr) bool {
	for _, a := range addrs {
		if a == addr {
			return true
		}
	}
	return false
}
