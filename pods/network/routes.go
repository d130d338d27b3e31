package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// routeHeader is the length of struct rtmsg, and of struct fib_rule_hdr.
const routeHeader = 12

// nexthopID is RTA_NH_ID of linux/rtnetlink.h.
const nexthopID = 30

// saveRoutes returns the routes of all tables, except those that the kernel makes from addresses or learns by itself.
func saveRoutes(ns netns.NsHandle) ([][]byte, error) {
	messages, err := dump(ns, unix.NETLINK_ROUTE, unix.RTM_GETROUTE, make([]byte, routeHeader))
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes [][]byte
	for _, message := range messages {
		family, protocol, flags := message[0], message[5], binary.NativeEndian.Uint32(message[8:])
		if family != unix.AF_INET && family != unix.AF_INET6 {
			continue
		}
		if protocol == unix.RTPROT_KERNEL || protocol == unix.RTPROT_REDIRECT || flags&unix.RTM_F_CLONED != 0 {
			continue
		}
		if find(parseAttributes(message[routeHeader:]), nexthopID) != nil {
			return nil, errors.New("a route refers to a nexthop object, which cannot be moved: name the gateway in the route")
		}
		// What the kernel reports of the nexthop at this moment is not accepted back.
		binary.NativeEndian.PutUint32(message[8:], flags&(unix.RTNH_F_ONLINK|unix.RTNH_F_PERVASIVE))
		routes = append(routes, message)
	}
	slices.SortStableFunc(routes, func(a, b []byte) int { return indirect(a) - indirect(b) })
	return routes, nil
}

// indirect is 1 for a route whose gateway must be reachable before it is accepted.
func indirect(message []byte) int {
	attrs := parseAttributes(message[routeHeader:])
	if find(attrs, unix.RTA_GATEWAY) != nil || find(attrs, unix.RTA_VIA) != nil || find(attrs, unix.RTA_MULTIPATH) != nil {
		return 1
	}
	return 0
}

// loadRoutes leaves the given routes and those that the kernel makes.
func loadRoutes(ns netns.NsHandle, routes [][]byte) error {
	present, err := saveRoutes(ns)
	if err != nil {
		return err
	}
	for _, message := range slices.Backward(present) {
		if has(routes, message) {
			continue
		}
		err := send(ns, unix.NETLINK_ROUTE, unix.RTM_DELROUTE, 0, message)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route %x: %w", message, err)
		}
	}
	for _, message := range routes {
		if len(message) < routeHeader {
			return fmt.Errorf("route %x is too short", message)
		}
		if err := send(ns, unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, message); err != nil {
			return fmt.Errorf("add route %x: %w", message, err)
		}
	}
	return nil
}

func saveRules(ns netns.NsHandle) ([][]byte, error) {
	rules, err := dump(ns, unix.NETLINK_ROUTE, unix.RTM_GETRULE, make([]byte, routeHeader))
	if err != nil {
		return nil, fmt.Errorf("list routing rules: %w", err)
	}
	return slices.DeleteFunc(rules, func(rule []byte) bool {
		return rule[0] != unix.AF_INET && rule[0] != unix.AF_INET6
	}), nil
}

// loadRules leaves the given rules and no others. A kernel may describe the same rule with more attributes than another one:
// then it is replaced by itself.
func loadRules(ns netns.NsHandle, rules [][]byte) error {
	present, err := saveRules(ns)
	if err != nil {
		return err
	}
	for _, message := range present {
		if has(rules, message) {
			continue
		}
		if err := send(ns, unix.NETLINK_ROUTE, unix.RTM_DELRULE, 0, message); err != nil {
			return fmt.Errorf("delete routing rule %x: %w", message, err)
		}
	}
	for _, message := range rules {
		if has(present, message) {
			continue
		}
		if err := send(ns, unix.NETLINK_ROUTE, unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, message); err != nil {
			return fmt.Errorf("add routing rule %x: %w", message, err)
		}
	}
	return nil
}

func has(messages [][]byte, message []byte) bool {
	return slices.ContainsFunc(messages, func(m []byte) bool { return bytes.Equal(m, message) })
}
