package seccomp

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// answer is what the filter says to a call with these arguments: 0 to allow it, or an errno.
func answer(t *testing.T, p *specs.LinuxSeccomp, name string, args ...uint64) unix.Errno {
	t.Helper()
	for _, rule := range p.Syscalls {
		if slices.Contains(rule.Names, name) && matches(t, rule.Args, args) {
			return errno(t, rule.Action, rule.ErrnoRet)
		}
	}
	return errno(t, p.DefaultAction, p.DefaultErrnoRet)
}

func errno(t *testing.T, action specs.LinuxSeccompAction, ret *uint) unix.Errno {
	t.Helper()
	switch {
	case action == specs.ActAllow:
		return 0
	case action == specs.ActErrno && ret != nil:
		return unix.Errno(*ret)
	default:
		t.Fatalf("unexpected action %s", action)
		return 0
	}
}

func matches(t *testing.T, conditions []specs.LinuxSeccompArg, args []uint64) bool {
	t.Helper()
	for _, c := range conditions {
		if int(c.Index) >= len(args) {
			t.Fatalf("the rule looks at argument %d; give it", c.Index)
		}
		switch c.Op {
		case specs.OpEqualTo:
			if args[c.Index] != c.Value {
				return false
			}
		case specs.OpMaskedEqual:
			if args[c.Index]&c.Value != c.ValueTwo {
				return false
			}
		default:
			t.Fatalf("unexpected operator %s", c.Op)
		}
	}
	return true
}

func TestCallsAreAnsweredAsDocumented(t *testing.T) {
	p := Profile([]string{"CAP_CHOWN"})
	for _, c := range []struct {
		name string
		args []uint64
		want unix.Errno
	}{
		{"read", nil, 0},
		{"execve", nil, 0},
		{"epoll_wait", nil, 0},
		{"process_vm_readv", nil, 0},
		{"clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD | 17}, 0},
		{"clone", []uint64{unix.CLONE_NEWUSER | 17}, unix.EPERM},
		{"clone", []uint64{unix.CLONE_NEWNS | unix.CLONE_VM}, unix.EPERM},
		{"clone3", nil, unix.ENOSYS},
		{"unshare", []uint64{unix.CLONE_FS | unix.CLONE_FILES}, 0},
		{"unshare", []uint64{unix.CLONE_NEWNET}, unix.EPERM},
		{"unshare", []uint64{unix.CLONE_NEWTIME}, unix.EPERM},
		{"mknod", []uint64{0, unix.S_IFIFO | 0o644}, 0},
		{"mknod", []uint64{0, 0o644}, 0},
		{"mknod", []uint64{0, unix.S_IFCHR | 0o644}, unix.EPERM},
		{"mknodat", []uint64{0, 0, unix.S_IFSOCK}, 0},
		{"mknodat", []uint64{0, 0, unix.S_IFBLK}, unix.EPERM},
		{"socket", []uint64{unix.AF_INET6}, 0},
		{"socket", []uint64{unix.AF_UNIX}, 0},
		{"socket", []uint64{unix.AF_NETLINK}, 0},
		{"socket", []uint64{unix.AF_VSOCK}, unix.EPERM},
		{"socket", []uint64{unix.AF_ALG}, unix.EPERM},
		{"socket", []uint64{unix.AF_XDP}, unix.EPERM},
		{"socketcall", nil, unix.EPERM},
		{"chroot", nil, unix.EPERM},
		{"no_such_call", nil, unix.EPERM},
	} {
		if got := answer(t, p, c.name, c.args...); got != c.want {
			t.Errorf("%s(%#x): %v, want %v", c.name, c.args, got, c.want)
		}
	}
}

func TestCallsOnTheHostAreDeniedWhateverTheCapabilities(t *testing.T) {
	all := Profile([]string{
		"CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE",
		"CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
	})
	for _, p := range []*specs.LinuxSeccomp{Profile(nil), all} {
		for _, name := range hostCalls() {
			if got := answer(t, p, name); got != unix.EPERM {
				t.Errorf("%s: %v, want EPERM", name, got)
			}
		}
		for _, name := range immovable() {
			if got := answer(t, p, name); got != unix.ENOSYS {
				t.Errorf("%s: %v, want ENOSYS", name, got)
			}
		}
		if got := answer(t, p, "clone", unix.CLONE_NEWNS); got != unix.EPERM {
			t.Errorf("clone with CLONE_NEWNS: %v, want EPERM", got)
		}
	}
}

func TestACapabilityThatMayBeAddedOpensItsCalls(t *testing.T) {
	p := Profile([]string{"CAP_SYS_CHROOT", "CAP_SYS_NICE"})
	for _, name := range []string{"chroot", "mbind"} {
		if got := answer(t, p, name); got != 0 {
			t.Errorf("%s: %v, want it allowed", name, got)
		}
	}
}

func TestTheProfileIsTheSameEveryTime(t *testing.T) {
	a, err := json.Marshal(Profile([]string{"CAP_CHOWN"}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(Profile([]string{"CAP_CHOWN"}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(a), string(b)); diff != "" {
		t.Error(diff)
	}
	if n := len(Profile(nil).Architectures); n != 1 {
		t.Errorf("%d architectures, want the native one", n)
	}
}
