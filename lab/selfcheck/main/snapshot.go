package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// snapshot takes down values by name now, and verifies that they are the same later. What is not is looked at once more: of a file of
// /proc that was half read when the program was frozen, the rest is as CRIU found it while it still rebuilt the program.
func snapshot(take func() (map[string]string, error)) (func() error, error) {
	before, err := take()
	if err != nil {
		return nil, err
	}
	verify := same(before, take)
	return func() error {
		if verify() == nil {
			return nil
		}
		return verify()
	}, nil
}

// same verifies that the values are as before.
func same(before map[string]string, take func() (map[string]string, error)) func() error {
	return func() error {
		after, err := take()
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(before)) {
			if after[name] != before[name] {
				return fmt.Errorf("%s was %q and is %q", name, before[name], after[name])
			}
		}
		if len(after) != len(before) {
			return fmt.Errorf("there were %d values and are %d: %v", len(before), len(after), after)
		}
		return nil
	}
}

func makeIdentity(environment) (func() error, error) {
	return snapshot(func() (map[string]string, error) {
		hostname, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		session, err := unix.Getsid(0)
		if err != nil {
			return nil, err
		}
		group, err := unix.Getpgid(0)
		if err != nil {
			return nil, err
		}
		var names unix.Utsname
		if err := unix.Uname(&names); err != nil {
			return nil, err
		}
		// Through /proc the kernel does not wait for a page that post-copy has yet to bring, and shows nothing. So the memory
		// itself is read first.
		arguments := strings.Join(os.Args, "\n")
		command, err := os.ReadFile("/proc/self/cmdline")
		if err != nil {
			return nil, err
		}
		return map[string]string{
			"pid": fmt.Sprint(os.Getpid()), "ppid": fmt.Sprint(os.Getppid()),
			"session": fmt.Sprint(session), "process group": fmt.Sprint(group),
			"hostname": hostname, "domain name": unix.ByteSliceToString(names.Domainname[:]), "command line": string(command), "arguments": arguments,
		}, nil
	})
}

func makeCredentials(environment) (func() error, error) {
	return snapshot(func() (map[string]string, error) {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return nil, err
		}
		values := map[string]string{}
		for line := range bytes.Lines(status) {
			name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
			switch name {
			case "Uid", "Gid", "Groups", "Umask", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp":
				values[name] = strings.TrimSpace(value)
			}
		}
		for name, option := range map[string]int{"dumpable": unix.PR_GET_DUMPABLE, "keep capabilities": unix.PR_GET_KEEPCAPS} {
			value, err := unix.PrctlRetInt(option, 0, 0, 0, 0)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			values[name] = fmt.Sprint(value)
		}
		return values, nil
	})
}

// limitsKnown is the number of resource limits that Linux has.
const limitsKnown = 16

func makeLimits(environment) (func() error, error) {
	return snapshot(func() (map[string]string, error) {
		values := map[string]string{}
		for resource := range limitsKnown {
			var limit unix.Rlimit
			if err := unix.Prlimit(0, resource, nil, &limit); err != nil {
				return nil, fmt.Errorf("limit %d: %w", resource, err)
			}
			values[fmt.Sprintf("limit %d", resource)] = fmt.Sprintf("%d of %d", limit.Cur, limit.Max)
		}
		priority, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		values["priority"] = fmt.Sprint(priority)
		return values, err
	})
}

func makeEnvironment(environment) (func() error, error) {
	return snapshot(func() (map[string]string, error) {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		link, err := os.Readlink("/proc/self/cwd")
		if err != nil {
			return nil, err
		}
		root, err := os.Readlink("/proc/self/root")
		if err != nil {
			return nil, err
		}
		program, err := os.Readlink("/proc/self/exe")
		if err != nil {
			return nil, err
		}
		environment := strings.Join(os.Environ(), "\n") // read first, as with the command line
		started, err := os.ReadFile("/proc/self/environ")
		return map[string]string{
			"directory": dir, "link to the directory": link, "root": root, "program": program,
			"environment": environment, "environment at the start": string(started),
		}, err
	})
}

// makeNetwork watches the interfaces, their addresses, and the routes, as the kernel tells them over netlink. Link-local
// IPv6 addresses come by themselves some time after an interface, and are left out.
func makeNetwork(environment) (func() error, error) {
	return snapshot(func() (map[string]string, error) {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, err
		}
		values, names := map[string]string{}, map[int]string{}
		for _, link := range links {
			attrs := link.Attrs()
			names[attrs.Index] = attrs.Name
			if attrs.Name != "lo" && attrs.Flags&1 == 0 {
				continue // one that is down: what the kernel makes by itself in each namespace
			}
			values["MAC of "+attrs.Name] = attrs.HardwareAddr.String()
			values["MTU of "+attrs.Name] = fmt.Sprint(attrs.MTU)
		}
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			if !addr.IP.IsLinkLocalUnicast() {
				values["address "+addr.IPNet.String()] = names[addr.LinkIndex]
			}
		}
		routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
		if err != nil {
			return nil, err
		}
		for _, route := range routes {
			values[fmt.Sprintf("route to %v", route.Dst)] = fmt.Sprintf("via %v on %s", route.Gw, names[route.LinkIndex])
		}
		return values, nil
	})
}
