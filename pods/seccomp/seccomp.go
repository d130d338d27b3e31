// Package seccomp holds the system call filter that every container of a pod runs under. Calls that reach beyond the
// pod fail with EPERM, whatever capabilities the pod was given. Calls whose effects CRIU cannot carry to another host
// fail with ENOSYS, as on a kernel without them, so that software takes its other way and the pod stays movable.
// Everything that is not allowed by name is denied.
package seccomp

import (
	"slices"

	defaults "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hostCalls act on the host or on what the pod is walled in by. containerd's profile opens some of them when a
// capability is added; here they stay shut.
func hostCalls() []string {
	return []string{
		"acct", "add_key", "adjtimex", "bpf", "clock_adjtime", "clock_adjtime64", "clock_settime", "clock_settime64",
		"create_module", "delete_module", "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick",
		"get_kernel_syms", "init_module", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
		"lookup_dcookie", "mount", "mount_setattr", "move_mount", "nfsservctl", "open_by_handle_at", "open_tree",
		"open_tree_attr", "perf_event_open", "pidfd_getfd", "pivot_root", "process_madvise", "query_module", "quotactl",
		"quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns", "settimeofday", "stime",
		"swapoff", "swapon", "_sysctl", "sysfs", "syslog", "umount", "umount2", "uselib", "vhangup", "vm86", "vm86old",
	}
}

// immovable calls make something that CRIU cannot dump, or silently forgets:
//   - io_uring: rings cannot be dumped;
//   - userfaultfd: CRIU needs the descriptor of a task for its own lazy pages;
//   - memfd_secret: the pages cannot be read from outside;
//   - mq_open: CRIU refuses an mqueue file system with a queue in it;
//   - landlock: a domain is not restored, and the task would run on without it;
//   - pkey_alloc: keys are not restored, and their next use would fail with EINVAL;
//   - modify_ldt: a task's own segments are not restored;
//   - ptrace: a task that has a tracer cannot be seized by CRIU.
func immovable() []string {
	return []string{
		"io_uring_enter", "io_uring_register", "io_uring_setup", "landlock_add_rule", "landlock_create_ruleset",
		"landlock_restrict_self", "memfd_secret", "modify_ldt", "mq_open", "pkey_alloc", "pkey_free", "ptrace",
		"userfaultfd",
	}
}

// Profile returns the filter for a container with these bounding capabilities (CAP_...). It depends on nothing
// else, except on the architecture that Drydock was built for: calls of another one, 32-bit x86 included, are denied,
// because their multiplexers (socketcall, ipc) would go around the rules on arguments.
func Profile(bounding []string) *specs.LinuxSeccomp {
	p := defaults.DefaultProfile(&specs.Spec{Process: &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: bounding},
	}})
	eperm := uint(unix.EPERM)
	p.DefaultAction, p.DefaultErrnoRet = specs.ActErrno, &eperm
	p.Architectures = native(p.Architectures)
	// What follows has rules of its own below.
	replaced := []string{"clone", "clone3", "mknod", "mknodat", "socket", "socketcall", "ipc", "unshare"}
	p.Syscalls = without(p.Syscalls, slices.Concat(hostCalls(), immovable(), replaced))
	p.Syscalls = append(p.Syscalls, namespaceRules()...)
	p.Syscalls = append(p.Syscalls, nodeRules()...)
	p.Syscalls = append(p.Syscalls, socketRules()...)
	p.Syscalls = append(p.Syscalls, missing(immovable()...))
	return p
}

// native keeps the first of containerd's list, which is the 64-bit one, except on arm64 where it is the second.
func native(all []specs.Arch) []specs.Arch {
	for _, a := range []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64} {
		if slices.Contains(all, a) {
			return []specs.Arch{a}
		}
	}
	return all
}

func without(rules []specs.LinuxSyscall, names []string) []specs.LinuxSyscall {
	var kept []specs.LinuxSyscall
	for _, r := range rules {
		r.Names = slices.DeleteFunc(slices.Clone(r.Names), func(n string) bool { return slices.Contains(names, n) })
		if len(r.Names) > 0 {
			kept = append(kept, r)
		}
	}
	return kept
}

// missing makes calls look as if the kernel did not have them.
func missing(names ...string) specs.LinuxSyscall {
	nosys := uint(unix.ENOSYS)
	return specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &nosys}
}

func allowMasked(call string, arg uint, mask, value uint64) specs.LinuxSyscall {
	return specs.LinuxSyscall{
		Names:  []string{call},
		Action: specs.ActAllow,
		Args:   []specs.LinuxSeccompArg{{Index: arg, Value: mask, ValueTwo: value, Op: specs.OpMaskedEqual}},
	}
}

// namespaceRules let a task fork, and unshare its file table, but make no namespace. clone3 keeps its flags in memory
// where a filter cannot look: it is answered with ENOSYS, and libraries fall back to clone. For clone, 0x80
// (CLONE_NEWTIME) is part of the exit signal.
func namespaceRules() []specs.LinuxSyscall {
	const made = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID |
		unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	return []specs.LinuxSyscall{
		allowMasked("clone", 0, made, 0),
		allowMasked("unshare", 0, made|unix.CLONE_NEWTIME, 0),
		missing("clone3"),
	}
}

// nodeRules allow mknod to make pipes, sockets and plain files (mkfifo(3) is mknod), but no device.
func nodeRules() []specs.LinuxSyscall {
	var rules []specs.LinuxSyscall
	for _, kind := range []uint64{0, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK} {
		rules = append(rules, allowMasked("mknod", 1, unix.S_IFMT, kind), allowMasked("mknodat", 2, unix.S_IFMT, kind))
	}
	return rules
}

// socketRules allow the address families that CRIU can dump.
func socketRules() []specs.LinuxSyscall {
	var rules []specs.LinuxSyscall
	for _, family := range []uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET} {
		rules = append(rules, specs.LinuxSyscall{
			Names:  []string{"socket"},
			Action: specs.ActAllow,
			Args:   []specs.LinuxSeccompArg{{Index: 0, Value: family, Op: specs.OpEqualTo}},
		})
	}
	return rules
}
