//go:build root

package filesync

import (
	"context"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// acl is an access control list as the kernel keeps it: the entries are tag, permissions, id.
func acl(entries ...[3]uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return string(b)
}

func (d dir) node(name string, mode uint32, major, minor uint32) {
	d.Helper()
	d.must(unix.Mknod(d.path(name), mode, int(unix.Mkdev(major, minor))))
}

func (d dir) own(name string, uid, gid int) { d.Helper(); d.must(unix.Lchown(d.path(name), uid, gid)) }

func TestEveryKindOfChangeThatNeedsRootArrives(t *testing.T) {
	const none = 0xffffffff
	list := acl([3]uint32{1, 6, none}, [3]uint32{2, 4, 1234}, [3]uint32{4, 4, none}, [3]uint32{16, 6, none}, [3]uint32{32, 0, none})
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service=ep
	tests := []struct {
		name         string
		make, change func(d dir)
	}{
		{"devices", func(d dir) { d.node("c", unix.S_IFCHR|0o660, 1, 3); d.node("b", unix.S_IFBLK|0o600, 7, 300) }, func(d dir) {
			d.remove("c")
			d.node("c", unix.S_IFCHR|0o660, 1, 5)
		}},
		{"a file that becomes a whiteout", func(d dir) { d.write("a", "x") }, func(d dir) { d.remove("a"); d.node("a", unix.S_IFCHR, 0, 0) }},
		{"a whiteout that becomes an opaque directory", func(d dir) { d.node("a", unix.S_IFCHR, 0, 0) }, func(d dir) {
			d.remove("a")
			d.mkdir("a")
			d.xattr("a", "trusted.overlay.opaque", "y")
		}},
		{"whiteouts that share an inode", func(d dir) { d.node("a", unix.S_IFCHR, 0, 0); d.link("a", "b") }, func(d dir) { d.remove("a"); d.link("b", "c") }},
		{"an opaque root", func(d dir) { d.xattr(".", "trusted.overlay.opaque", "y") }, func(d dir) { d.must(unix.Lremovexattr(d.root, "trusted.overlay.opaque")) }},
		{"attributes of links and nodes", func(d dir) {
			d.symlink("/nowhere", "l")
			d.xattr("l", "trusted.one", "1")
			d.node("c", unix.S_IFCHR, 0, 0)
			d.xattr("c", "trusted.two", "2")
		}, func(d dir) { d.xattr("l", "trusted.one", "3") }},
		{"owners", func(d dir) { d.write("a", "x"); d.own("a", 1000, 1001); d.symlink("a", "l"); d.own("l", 5, 6) }, func(d dir) {
			d.own("a", 0, 7)
			d.mkdir("d")
			d.own("d", 4_000_000_000, 33)
		}},
		{"a set-user-ID program that is written to", func(d dir) { d.write("a", "x"); d.own("a", 1000, 1000); d.must(unix.Chmod(d.path("a"), 0o6755)) }, func(d dir) {
			d.write("a", "another")
			d.must(unix.Chmod(d.path("a"), 0o6755))
		}},
		{"file capabilities", func(d dir) { d.write("a", "x"); d.xattr("a", "security.capability", capability) }, func(d dir) {
			d.write("a", "another")
			d.own("a", 9, 9)
			d.xattr("a", "security.capability", capability)
		}},
		{"access control lists", func(d dir) { d.write("a", "x"); d.xattr("a", "system.posix_acl_access", list) }, func(d dir) {
			d.must(unix.Chmod(d.path("a"), 0o640))
			d.mkdir("d")
			d.xattr("d", "system.posix_acl_default", list)
			d.write("d/inherits", "x")
		}},
		{"a file older than its directory's default list", func(d dir) { d.mkdir("d"); d.xattr("d", "system.posix_acl_default", list) }, func(d dir) {
			d.write("plain", "x")
			d.rename("plain", "d/plain")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			d := dir{t, p.from}
			tt.make(d)
			p.pass(t, PassOptions{})
			p.equal(t)
			tt.change(d)
			p.pass(t, PassOptions{Final: true})
			p.equal(t)
			p.source.Reset()
			p.pass(t, PassOptions{Final: true})
			p.equal(t)
		})
	}
}

func TestAMountPointInTheTreeIsRefusedByName(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.from}
	d.mkdir("s/mnt")
	d.must(unix.Mount("filesync-test", d.path("s/mnt"), "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { unix.Unmount(d.path("s/mnt"), unix.MNT_DETACH) })
	_, err := p.source.Pass(context.Background(), io.Discard, PassOptions{})
	if err == nil || !strings.Contains(err.Error(), `"s/mnt" is a mount point`) {
		t.Errorf("got %v", err)
	}
}

func TestEmptyingTheTargetDoesNotReachIntoAMount(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.to}
	d.mkdir("s/mnt")
	d.must(unix.Mount("filesync-test", d.path("s/mnt"), "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { unix.Unmount(d.path("s/mnt"), unix.MNT_DETACH) })
	d.write("s/mnt/victim", "safe")
	_, err := p.target.Apply(context.Background(), forged(t))
	if err == nil || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("got %v", err)
	}
	if got := describe(t, d.path("s/mnt")); len(got) != 2 {
		t.Errorf("in the mount there is %v", got)
	}
}
