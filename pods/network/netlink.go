package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"drydock/internal/netdump"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// attribute is one netlink attribute. Its value shares memory with the message that it was parsed from.
type attribute struct {
	kind  uint16 // without the flags
	whole []byte // header and value, without padding
}

const (
	attributeHeader = 4
	attributeKind   = 0x3fff
)

func (a attribute) value() []byte { return a.whole[attributeHeader:] }

// rename changes the kind in the message itself.
func (a attribute) rename(kind uint16) {
	flags := binary.NativeEndian.Uint16(a.whole[2:]) &^ attributeKind
	binary.NativeEndian.PutUint16(a.whole[2:], flags|kind)
}

// parseAttributes returns the attributes in order, up to the first that is malformed.
func parseAttributes(b []byte) []attribute {
	var attrs []attribute
	for len(b) >= attributeHeader {
		length := int(binary.NativeEndian.Uint16(b))
		if length < attributeHeader || length > len(b) {
			break
		}
		attrs = append(attrs, attribute{kind: binary.NativeEndian.Uint16(b[2:]) & attributeKind, whole: b[:length]})
		b = b[min(len(b), padded(length)):]
	}
	return attrs
}

func find(attrs []attribute, kind uint16) []byte {
	for _, attr := range attrs {
		if attr.kind == kind {
			return attr.value()
		}
	}
	return nil
}

// nested finds an attribute inside attributes, by the kinds on the way to it.
func nested(attrs []attribute, kinds ...uint16) []byte {
	var value []byte
	for _, kind := range kinds {
		value = find(attrs, kind)
		attrs = parseAttributes(value)
	}
	return value
}

func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attributeHeader+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, padded(len(value))-len(value))...)
}

func padded(length int) int { return (length + 3) &^ 3 }

// dump returns the bodies of all messages that answer a request.
func dump(ns netns.NsHandle, protocol, request int, body []byte) ([][]byte, error) {
	return netdump.Whole(func() (messages [][]byte, err error) {
		err = within(ns, func() (err error) {
			req := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
			req.AddRawData(body)
			messages, err = req.Execute(protocol, 0)
			return err
		})
		return messages, err
	})
}

// send carries one request out and waits for the kernel's answer.
func send(ns netns.NsHandle, protocol, request, flags int, body []byte) error {
	return within(ns, func() error {
		req := nl.NewNetlinkRequest(request, flags|unix.NLM_F_ACK)
		req.AddRawData(body)
		_, err := req.Execute(protocol, 0)
		return err
	})
}

func prefixOf(ip net.IP, mask net.IPMask) netip.Prefix {
	addr, _ := netip.AddrFromSlice(ip)
	bits, _ := mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}

func parseMAC(text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	if err != nil {
		return nil, fmt.Errorf("MAC %q: %w", text, err)
	}
	return mac, nil
}
