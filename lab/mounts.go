package lab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mounting is one mount that a host's init makes before it moves into its root.
type mounting struct {
	target string // below the new root
	source string
	fstype string // empty: a bind of source
	flags  uintptr
	data   string
	file   bool // the target is a file
}

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountings lists a host's mounts in order. What a host keeps over its reboots is bound from the machine's real file
// system; containerd cannot stack its overlays on the overlay that the root is.
func mountings(l *Lab, s spec) []mounting {
	shm := mounting{target: "dev/shm", source: "tmpfs", fstype: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777"}
	list := []mounting{
		{target: "proc", source: "proc", fstype: "proc", flags: quiet},
		{target: "sys", source: "sysfs", fstype: "sysfs", flags: quiet},
		{target: "sys/fs/cgroup", source: "/sys/fs/cgroup", flags: unix.MS_REC},
		{target: "dev", source: "/dev"},
		{target: "dev/pts", source: "devpts", fstype: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		shm,
		{target: "run", source: "tmpfs", fstype: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755"},
		{target: "tmp", source: "tmpfs", fstype: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777"},
		{target: "var/lib/drydock", source: l.DataDir(s.Node)},
		{target: "etc/drydock", source: l.ConfigDir(s.Node)},
		{target: "var/log/drydock", source: l.LogDir(s.Node)},
		{target: "srv/shared", source: l.SharedDir()},
		{target: "usr/bin/drydock", source: l.binary(), file: true},
	}
	if _, err := os.Stat("/dev/mqueue"); err == nil {
		list = append(list, mounting{target: "dev/mqueue", source: "mqueue", fstype: "mqueue", flags: quiet})
	}
	switch {
	case isController(s.Node):
		return append(list, controllerMounts(l, s.Node)...)
	case s.Node == PackagesNode:
		return append(list, proxyMounts(l)...)
	}
	return append(list, mounting{target: "var/lib/containerd", source: l.nodeDir(s.Node, "containerd")})
}

// enterRoot makes the host's root and moves this mount namespace into it; nothing of the machine's stays visible.
func enterRoot(l *Lab, s spec, boot string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := l.nodeDir(s.Node, "root")
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", s.Root, l.nodeDir(s.Node, "upper"), l.nodeDir(s.Node, "work"))
	if err := unix.Mount("overlay", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount the root's overlay: %w", err)
	}
	for _, m := range mountings(l, s) {
		if err := m.do(root); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := writeFiles(root, s.Files); err != nil {
		return err
	}
	if err := setIdentity(root, boot); err != nil {
		return err
	}
	return pivot(root)
}

func (m mounting) do(root string) error {
	target := filepath.Join(root, m.target)
	if err := m.makeTarget(target); err != nil {
		return err
	}
	if m.fstype == "" {
		return unix.Mount(m.source, target, "", unix.MS_BIND|m.flags, "")
	}
	return unix.Mount(m.source, target, m.fstype, m.flags, m.data)
}

func (m mounting) makeTarget(target string) error {
	if !m.file {
		return os.MkdirAll(target, 0o755)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	return f.Close()
}

func writeFiles(root string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// setIdentity gives the host its own boot id, new at each boot, and a machine id that it keeps.
func setIdentity(root, boot string) error {
	path := filepath.Join(root, "run", "boot_id")
	if err := os.WriteFile(path, []byte(boot+"\n"), 0o444); err != nil {
		return err
	}
	if err := unix.Mount(path, filepath.Join(root, "proc/sys/kernel/random/boot_id"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("set the boot id: %w", err)
	}
	idFile := filepath.Join(root, "etc", "machine-id")
	have, err := os.ReadFile(idFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(strings.TrimSpace(string(have))) == 32 {
		return nil
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return os.WriteFile(idFile, []byte(hex.EncodeToString(id)+"\n"), 0o444)
}

// pivot makes root the root of this mount namespace, and lets go of the machine's.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old root is now stacked on the new one
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the machine's root: %w", err)
	}
	return unix.Chdir("/")
}

// silenceFilters keeps the host's packet filter off the frames that its bridge forwards.
func silenceFilters() error {
	for _, file := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"} {
		err := os.WriteFile(filepath.Join("/proc/sys/net/bridge", file), []byte("0"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
