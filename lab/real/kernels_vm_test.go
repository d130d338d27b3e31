//go:build vm

package real

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/lab"
	"drydock/lab/repository"
)

// Programs of an initial RAM disk, as machine code for Linux on amd64.
var (
	// A first process that ends: the kernel panics.
	ends = []byte{0xbf, 1, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05} // exit(1)
	// One that waits for ever, before anything feeds a watchdog.
	waits = []byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7} // for { pause() }
)

// executable is the smallest program that Linux starts.
func executable(code []byte) []byte {
	const base, headers = 0x400000, 64 + 56
	var b bytes.Buffer
	write := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v) // a buffer takes all
		}
	}
	size := uint64(headers + len(code))
	write([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9), uint16(2), uint16(62), uint32(1), uint64(base+headers), uint64(64), uint64(0),
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0))
	write(uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(4096))
	write(code)
	return b.Bytes()
}

// ramdisk is an initial RAM disk in which init is all that there is (cpio's "newc").
func ramdisk(init []byte) []byte {
	var b bytes.Buffer
	add := func(name string, mode int, data []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.Write(data)
		b.Write(make([]byte, -b.Len()&3))
	}
	add("init", 0o100755, init)
	add("TRAILER!!!", 0, nil)
	return b.Bytes()
}

// brokenKernel is a package of a kernel that does not come up.
type brokenKernel struct {
	how string
	// initrd takes the place of the one that the host has; nil leaves that.
	initrd []byte
	// hangs has systemd stand still early in the boot, when it feeds the watchdog.
	hangs bool
}

func (b brokenKernel) release() string { return "6.99.9+" + b.how + "-cloud-amd64" }

const hangUnit = `[Unit]
Description=A fault of the kernel's
DefaultDependencies=no
Before=sysinit.target
ConditionKernelCommandLine=BOOT_IMAGE=/boot/vmlinuz-%s

[Service]
Type=oneshot
ExecStart=/bin/kill -SEGV 1
ExecStart=/bin/sleep infinity
`

// files are those of the package: the host's own kernel under another name.
func (b brokenKernel) files(vmlinuz, initrd []byte) map[string]string {
	if b.initrd != nil {
		initrd = b.initrd
	}
	files := map[string]string{"boot/vmlinuz-" + b.release(): string(vmlinuz), "boot/initrd.img-" + b.release(): string(initrd)}
	if b.hangs {
		files["usr/lib/systemd/system/sysinit.target.wants/drydock-lab-hang.service"] = fmt.Sprintf(hangUnit, b.release())
		files["usr/lib/systemd/system/drydock-lab-hang.service"] = fmt.Sprintf(hangUnit, b.release())
	}
	return files
}

// archive is an archive of packages that hosts reach where the pods' clients are.
type archive struct {
	repository.Archive
	key string
}

const archiveAddress = ":8077"

func (s *scene) newArchive(t *testing.T) *archive {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	key, err := repository.NewKey(now)
	if err != nil {
		t.Fatal(err)
	}
	a := &archive{Archive: repository.Archive{
		Dir: t.TempDir(), Suite: "broken-security", Label: "Broken-Security", Key: key, Date: now.Add(-time.Minute), Until: now.Add(24 * time.Hour),
	}}
	if a.key, err = key.Public(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(a.Pool(), 0o755); err != nil {
		t.Fatal(err)
	}
	var listener net.Listener
	if err := s.InNetNS(lab.ClientNode, func() (err error) {
		listener, err = net.Listen("tcp", archiveAddress)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(a.Dir)), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return a
}

const kernelPackage = "linux-image-cloud-amd64"

// offer has the archive offer a broken kernel to the host, and nothing else.
func (s *scene) offer(t *testing.T, a *archive, host string, b brokenKernel) {
	t.Helper()
	if old, err := filepath.Glob(filepath.Join(a.Pool(), "*.deb")); err == nil {
		for _, deb := range old {
			if err := os.Remove(deb); err != nil {
				t.Fatal(err)
			}
		}
	}
	running := s.in(t, host, "uname", "-r")
	version := s.in(t, host, "dpkg-query", "-W", "-f", "${Version}", kernelPackage) + "+" + b.how
	files := b.files(s.read(t, host, "/boot/vmlinuz-"+running), s.read(t, host, "/boot/initrd.img-"+running))
	buildDeb(t, a.Pool(), "linux-image-"+b.release(), version, "", files)
	buildDeb(t, a.Pool(), kernelPackage, version, "linux-image-"+b.release(), nil)
	if err := a.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	const keyFile = "/etc/apt/keyrings/broken.asc"
	s.put(t, host, keyFile, a.key)
	s.put(t, host, "/etc/apt/sources.list", a.Line(keyFile, "http://"+s.Address(lab.ClientNode)+archiveAddress))
}

// buildDeb makes a package that has GRUB's menu made anew when it comes and when it goes.
func buildDeb(t *testing.T, to, name, version, depends string, files map[string]string) {
	t.Helper()
	tree := t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: lab <lab@drydock.invalid>\n", name, version)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	put := func(path, text string, mode os.FileMode) {
		full := filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("DEBIAN/control", control+"Description: a kernel for tests\n", 0o644)
	if len(files) > 0 {
		put("DEBIAN/postinst", "#!/bin/sh\nexec update-grub\n", 0o755)
		put("DEBIAN/postrm", "#!/bin/sh\nexec update-grub\n", 0o755)
	}
	for path, text := range files {
		put(path, text, 0o644)
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(to, fmt.Sprintf("%s_%s_amd64.deb", name, version))
	if out, err := exec.Command("dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", tree, deb).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// read is a file of a host.
func (s *scene) read(t *testing.T, host, path string) []byte {
	t.Helper()
	data, err := s.Exec(t.Context(), host, "cat", path).Output()
	if err != nil {
		t.Fatalf("read %s on %s: %v", path, host, err)
	}
	return data
}

// put makes a file on a host.
func (s *scene) put(t *testing.T, host, path, text string) {
	t.Helper()
	cmd := s.Exec(t.Context(), host, "sh", "-c", `mkdir -p "$(dirname "$1")" && cat >"$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("write %s on %s: %v: %s", path, host, err, out)
	}
}

// operate types a command of drydock's as an operator does.
func (s *scene) operate(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, *program, args...)
	cmd.Env = append(os.Environ(), s.Env()...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
