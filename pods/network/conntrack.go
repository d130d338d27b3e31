package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// From linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	ctSubsystem = 1 << 8
	ctNew       = ctSubsystem
	ctGet       = ctSubsystem | 1
	ctDelete    = ctSubsystem | 2

	ctTupleOrig  = 1
	ctTupleReply = 2
	ctStatus     = 3
	ctProtoInfo  = 4
	ctNATSource  = 6
	ctTimeout    = 7
	ctMark       = 8
	ctNATDest    = 13
	ctSeqOrig    = 15
	ctSeqReply   = 16
	ctZone       = 18
	ctLabels     = 22

	ctTupleIP    = 1
	ctTupleProto = 2

	ctConfirmed = 1 << 3
	ctSourceNAT = 1 << 4
	ctDestNAT   = 1 << 5
	ctSettable  = 1<<1 | 1<<2 | ctConfirmed // seen reply, assured

	ctTCP           = 1
	ctTCPFlagsOrig  = 4
	ctTCPFlagsReply = 5
	ctTCPKept       = 0x07 // window scaling, selective acknowledgement, closing begun
	ctTCPBeLiberal  = 0x08

	conntrackCount = "/proc/sys/net/netfilter/nf_conntrack_count"

	nfHeader = 4 // struct nfgenmsg
	nested16 = 1 << 15
)

// saveConntrack returns the connections that the kernel tracks for the namespace: none unless its ruleset asks for it.
func saveConntrack(ns netns.NsHandle) ([][]byte, error) {
	// Listing them walks a table that the namespaces share, which takes 10 ms even when none is ours. Their number is at hand.
	none := false
	err := within(ns, func() error {
		count, err := os.ReadFile(conntrackCount)
		none = errors.Is(err, os.ErrNotExist) || strings.TrimSpace(string(count)) == "0"
		return nil
	})
	if err != nil || none {
		return nil, err
	}
	entries, err := dump(ns, unix.NETLINK_NETFILTER, ctGet, make([]byte, nfHeader))
	if err != nil {
		return nil, fmt.Errorf("list tracked connections: %w", err)
	}
	return entries, nil
}

// loadConntrack puts entries into the namespace. What the pod sends or gets next is then part of its old connections, and
// translated as before.
func loadConntrack(ns netns.NsHandle, entries [][]byte) error {
	for _, entry := range entries {
		if len(entry) < nfHeader {
			return fmt.Errorf("tracked connection %x is too short", entry)
		}
		message := recreation(entry)
		err := send(ns, unix.NETLINK_NETFILTER, ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, message)
		if errors.Is(err, unix.EEXIST) {
			if err := send(ns, unix.NETLINK_NETFILTER, ctDelete, 0, identity(entry)); err != nil && !isGone(err) {
				return fmt.Errorf("replace tracked connection %x: %w", entry, err)
			}
			err = send(ns, unix.NETLINK_NETFILTER, ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, message)
		}
		if err != nil {
			return fmt.Errorf("add tracked connection %x: %w", entry, err)
		}
	}
	return nil
}

// identity is the part of an entry that names it.
func identity(entry []byte) []byte {
	message := bytes.Clone(entry[:nfHeader])
	for _, attr := range parseAttributes(entry[nfHeader:]) {
		if attr.kind == ctTupleOrig || attr.kind == ctZone {
			message = appendWhole(message, attr)
		}
	}
	return message
}

// recreation turns an entry as the kernel lists it into a request for the same entry. The kernel lists an address
// translation as a reply that does not mirror the original, and wants it as the mirror and the translation beside it.
func recreation(entry []byte) []byte {
	entry = bytes.Clone(entry)
	attrs := parseAttributes(entry[nfHeader:])
	var status uint32
	if value := find(attrs, ctStatus); len(value) == 4 {
		status = binary.BigEndian.Uint32(value)
	}
	translated := status&(ctSourceNAT|ctDestNAT) != 0
	message := bytes.Clone(entry[:nfHeader])
	if translated {
		reply := parseAttributes(find(attrs, ctTupleReply))
		if status&ctSourceNAT != 0 {
			message = appendAttribute(message, ctNATSource|nested16, translation(reply, 2, 4, 3))
		}
		if status&ctDestNAT != 0 {
			message = appendAttribute(message, ctNATDest|nested16, translation(reply, 1, 3, 2))
		}
		mirror := bytes.Clone(find(attrs, ctTupleOrig))
		turn(mirror)
		message = appendAttribute(message, ctTupleReply|nested16, mirror)
	}
	for _, attr := range attrs {
		switch attr.kind {
		case ctTupleReply:
			if translated {
				continue
			}
		case ctStatus:
			binary.BigEndian.PutUint32(attr.value(), status&ctSettable|ctConfirmed)
		case ctProtoInfo:
			trust(attr.value())
		case ctTupleOrig, ctTimeout, ctMark, ctSeqOrig, ctSeqReply, ctZone, ctLabels:
		default: // what only the kernel says: use count, id, counters, security context
			continue
		}
		message = appendWhole(message, attr)
	}
	return message
}

func appendWhole(message []byte, attr attribute) []byte {
	return appendAttribute(message, binary.NativeEndian.Uint16(attr.whole[2:]), attr.value())
}

// translation is the value of CTA_NAT_SRC or CTA_NAT_DST for one side of a reply tuple, given by the kinds of its IPv4
// address, IPv6 address and port.
func translation(reply []attribute, ip4, ip6, port uint16) []byte {
	var value []byte
	if addr := nested(reply, ctTupleIP, ip4); addr != nil {
		value = appendAttribute(appendAttribute(value, 1, addr), 2, addr)
	} else if addr := nested(reply, ctTupleIP, ip6); addr != nil {
		value = appendAttribute(appendAttribute(value, 4, addr), 5, addr)
	}
	if number := nested(reply, ctTupleProto, port); number != nil {
		value = appendAttribute(value, 3|nested16, appendAttribute(appendAttribute(nil, 1, number), 2, number))
	}
	return value
}

// turn swaps source and destination of a tuple, in place.
func turn(tuple []byte) {
	swaps := map[uint16]map[uint16]uint16{
		ctTupleIP:    {1: 2, 2: 1, 3: 4, 4: 3},
		ctTupleProto: {2: 3, 3: 2},
	}
	for _, part := range parseAttributes(tuple) {
		for _, field := range parseAttributes(part.value()) {
			if other, ok := swaps[part.kind][field.kind]; ok {
				field.rename(other)
			}
		}
	}
}

// trust makes the kernel take over the flags of a TCP connection, except those about sequence numbers, and not judge such
// numbers: it does not list those that it has seen.
func trust(info []byte) {
	for _, kind := range []uint16{ctTCPFlagsOrig, ctTCPFlagsReply} {
		if flags := nested(parseAttributes(info), ctTCP, kind); len(flags) == 2 {
			flags[0], flags[1] = flags[0]&ctTCPKept|ctTCPBeLiberal, 0xff
		}
	}
}
