package network

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	testMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	askerMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	testAddr4 = netip.MustParseAddr("192.0.2.5")
	testAddr6 = netip.MustParseAddr("2001:db8::5")
	asker4    = netip.MustParseAddr("192.0.2.9")
	asker6    = netip.MustParseAddr("2001:db8::9")
)

func solicitation(from, target netip.Addr) []byte {
	body := append([]byte{icmpv6NeighborSolicitation, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
	group := solicitedNode(target)
	return icmpv6Frame(askerMAC, multicastMAC(group), from, group, nil, body)
}

func TestQuestionsForThePodsAddressesAreAnsweredAndNoOthers(t *testing.T) {
	none := make(net.HardwareAddr, 6)
	tests := map[string]struct {
		frame []byte
		want  []byte
	}{
		"ARP": {
			arpFrame(arpRequest, broadcast, askerMAC, asker4, none, testAddr4),
			arpFrame(arpReply, askerMAC, testMAC, testAddr4, askerMAC, asker4),
		},
		"unicast ARP": {
			arpFrame(arpRequest, testMAC, askerMAC, asker4, none, testAddr4),
			arpFrame(arpReply, askerMAC, testMAC, testAddr4, askerMAC, asker4),
		},
		"ARP for another address": {arpFrame(arpRequest, broadcast, askerMAC, asker4, none, netip.MustParseAddr("192.0.2.6")), nil},
		"ARP reply":               {arpFrame(arpReply, broadcast, askerMAC, asker4, none, testAddr4), nil},
		"own gratuitous ARP":      {arpFrame(arpRequest, broadcast, testMAC, testAddr4, none, testAddr4), nil},
		"short ARP":               {arpFrame(arpRequest, broadcast, askerMAC, asker4, none, testAddr4)[:30], nil},
		"solicitation": {
			solicitation(asker6, testAddr6), advertisement(testMAC, testAddr6, asker6, askerMAC, naSolicited|naOverride),
		},
		"duplicate address detection": {
			solicitation(netip.IPv6Unspecified(), testAddr6),
			advertisement(testMAC, testAddr6, allNodes, multicastMAC(allNodes), naOverride),
		},
		"solicitation of another address": {solicitation(asker6, asker6), nil},
		"short solicitation":              {solicitation(asker6, testAddr6)[:70], nil},
		"nothing":                         {nil, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := answer(test.frame, testMAC, []netip.Addr{testAddr4, testAddr6}); !bytes.Equal(got, test.want) {
				t.Errorf("answer\n%x, want\n%x", got, test.want)
			}
		})
	}
}

func TestOnlyWhatConcernsThePodIsKept(t *testing.T) {
	none := make(net.HardwareAddr, 6)
	frame := func(to, from net.HardwareAddr) []byte {
		return append(etherFrame(to, from, unix.ETH_P_IP), make([]byte, 46)...)
	}
	tests := map[string]struct {
		frame []byte
		want  bool
	}{
		"unicast":            {frame(testMAC, askerMAC), true},
		"to another MAC":     {frame(net.HardwareAddr{2, 0, 0, 0, 0, 3}, askerMAC), false},
		"from the pod":       {frame(broadcast, testMAC), false},
		"IPv4 broadcast":     {frame(broadcast, askerMAC), false},
		"broadcast ARP":      {arpFrame(arpRequest, broadcast, askerMAC, asker4, none, testAddr4), true},
		"advertisement":      {advertisement(askerMAC, asker6, allNodes, multicastMAC(allNodes), naOverride), true},
		"multicast listener": {groupReport(askerMAC, solicitedNode(asker6)), false},
		"too short":          {[]byte{0xff}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := concerns(test.frame, testMAC); got != test.want {
				t.Errorf("concerns the pod: %v, want %v", got, test.want)
			}
		})
	}
}

func TestAnAdvertisementHasAValidChecksum(t *testing.T) {
	for _, frame := range announcement(testMAC, testAddr6) {
		from, _ := netip.AddrFromSlice(frame[etherHeader+8 : etherHeader+24])
		to, _ := netip.AddrFromSlice(frame[etherHeader+24 : etherHeader+40])
		body := frame[etherHeader+40:]
		if frame[etherHeader+6] == unix.IPPROTO_HOPOPTS {
			body = body[8:]
		}
		if sum := icmpv6Checksum(from, to, body); sum != 0 {
			t.Errorf("sum over %x is %#x, want 0", frame, sum)
		}
	}
}
