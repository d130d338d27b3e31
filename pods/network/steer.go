package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Steered is a port of a pod whose new connections are led to a socket that listens in the pod, whatever address that has.
type Steered struct {
	Port uint16
	// Socket is a descriptor, open until Steer returns. A socket takes connections of its own family only.
	Socket int
	IPv6   bool
}

// steerDir is where the programs that steer are pinned, so that they outlive this process: a file for each pod.
func (h *Host) steerDir() string { return h.dir + ".bpf" }

// steerPrefix tells pods' files from the kernel's own.
const steerPrefix = "pod-"

func (h *Host) steerPin(pod string) string { return filepath.Join(h.steerDir(), steerPrefix+pod) }

// Steer leads connections that come from outside of the pod to other sockets than those bound to the ports. It needs no port of its
// own and leaves no state with a connection: one that is established is its socket's, wherever that moves. What connects from inside
// reaches the ports as before. Steer replaces what an earlier call said, between two connections. Where a socket is closed,
// connections to its port are refused. Connections that exist are not touched.
func (n *Network) Steer(ctx context.Context, ports []Steered) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := n.steer(ports); err != nil {
		return fmt.Errorf("steer connections of pod %s: %w", n.cfg.Pod, err)
	}
	return nil
}

func (n *Network) steer(ports []Steered) error {
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Name: "drydock", Type: ebpf.SockMap, KeySize: 4, ValueSize: 8, MaxEntries: uint32(2 * len(ports))})
	if err != nil {
		return fmt.Errorf("%w; the kernel needs BPF (CONFIG_BPF_SYSCALL), and the agent its capability", err)
	}
	defer sockets.Close()
	for _, p := range ports {
		if err := sockets.Put(slot(ports, p), uint64(p.Socket)); err != nil {
			return fmt.Errorf("socket for port %d: %w", p.Port, err)
		}
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "drydock", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, Instructions: steering(sockets, ports),
	})
	if err != nil {
		return fmt.Errorf("%w; the kernel must be Linux 5.17 or later", err)
	}
	defer program.Close()
	return n.attach(program)
}

// slot is where the kernel's program finds the socket for a port and a packet's family: the port has two, at the place where it comes
// first.
func slot(ports []Steered, p Steered) uint32 {
	first := slices.IndexFunc(ports, func(other Steered) bool { return other.Port == p.Port })
	if p.IPv6 {
		return uint32(2*first + 1)
	}
	return uint32(2 * first)
}

// attach puts a program in the place of the one that is pinned, or pins the first.
func (n *Network) attach(program *ebpf.Program) error {
	if err := mountBPF(n.host.steerDir()); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(n.Path())
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", n.Path(), err)
	}
	defer ns.Close()
	pin := n.host.steerPin(n.cfg.Pod)
	before, err := link.LoadPinnedLink(pin, nil)
	if err == nil && isOf(before, ns) {
		return errors.Join(before.Update(program), before.Close())
	}
	if err == nil {
		err = errors.Join(before.Close(), os.Remove(pin)) // an earlier namespace's
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	attached, err := link.AttachNetNs(int(ns), program)
	if err != nil {
		return err
	}
	return errors.Join(attached.Pin(pin), attached.Close())
}

// isOf tells whether a link is a namespace's.
func isOf(l link.Link, ns netns.NsHandle) bool {
	var stat unix.Stat_t
	if err := unix.Fstat(int(ns), &stat); err != nil {
		return false
	}
	info, err := l.Info()
	return err == nil && info.NetNs() != nil && uint64(info.NetNs().NetnsIno) == stat.Ino
}

// Steers tells whether connections of a pod are steered.
func (h *Host) Steers(pod string) bool {
	_, err := os.Stat(h.steerPin(pod))
	return err == nil
}

// EndSteer has new connections of a pod reach its ports again. It may be called where none is steered. With the last one the file
// system goes that programs were pinned in.
func (h *Host) EndSteer(ctx context.Context, pod string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.Remove(h.steerPin(pod)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("end the steering of pod %s: %w", pod, err)
	}
	return unmountBPF(h.steerDir())
}

func mountBPF(dir string) error {
	mounted, err := isBPF(dir)
	if err != nil || mounted {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

// unmountBPF leaves one that is in use.
func unmountBPF(dir string) error {
	mounted, err := isBPF(dir)
	if err != nil || !mounted {
		return err
	}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), steerPrefix) {
			return err
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

func isBPF(dir string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	return fs.Type == unix.BPF_FS_MAGIC, nil
}

// Fields of struct bpf_sk_lookup (linux/bpf.h). The port is in the host's order.
const (
	lookupFamily    = 8
	lookupProtocol  = 12
	lookupRemote4   = 16
	lookupRemote6   = 20
	lookupLocal4    = 40
	lookupLocal6    = 44
	lookupLocalPort = 60
	lookupInterface = 64

	loopbackIndex = 1
	pass, drop    = 1, 0
)

// steering is the program (BPF_PROG_TYPE_SK_LOOKUP, Documentation/bpf/prog_sk_lookup.rst). The kernel runs it for a packet that
// belongs to no connection, before it looks for who listens.
func steering(sockets *ebpf.Map, ports []Steered) asm.Instructions {
	out := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, lookupProtocol, asm.Word),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),
		asm.LoadMem(asm.R2, asm.R6, lookupInterface, asm.Word),
		asm.JEq.Imm(asm.R2, loopbackIndex, "pass"),
	}
	// What a pod sends to an address of its own has that address at both ends, and is not said to come by the loopback.
	for i := range int16(5) {
		remote, local := lookupRemote6+4*(i-1), lookupLocal6+4*(i-1)
		if i == 0 {
			remote, local = lookupRemote4, lookupLocal4
		}
		out = append(out,
			asm.LoadMem(asm.R2, asm.R6, remote, asm.Word), asm.LoadMem(asm.R3, asm.R6, local, asm.Word), asm.JNE.Reg(asm.R2, asm.R3, "foreign"))
	}
	out = append(out, asm.Ja.Label("pass"), asm.LoadMem(asm.R2, asm.R6, lookupLocalPort, asm.Word).WithSymbol("foreign"))
	for i, p := range ports {
		out = append(out, asm.Mov.Imm(asm.R7, int32(2*i)), asm.JEq.Imm(asm.R2, int32(p.Port), "steer"))
	}
	return append(out,
		asm.Ja.Label("pass"),
		asm.LoadMem(asm.R2, asm.R6, lookupFamily, asm.Word).WithSymbol("steer"),
		asm.JNE.Imm(asm.R2, unix.AF_INET6, "find"),
		asm.Add.Imm(asm.R7, 1),
		asm.StoreMem(asm.RFP, -4, asm.R7, asm.Word).WithSymbol("find"),
		asm.LoadMapPtr(asm.R1, sockets.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),
		asm.JNE.Imm(asm.R8, 0, "drop"),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
		asm.Return(),
	)
}
