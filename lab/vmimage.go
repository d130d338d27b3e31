package lab

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// vmPackages are what a machine's root has beside that of a namespaced host: a kernel, an init, a way to boot and to get in.
func vmPackages() []string {
	return []string{
		"dbus", "grub-common", "grub-pc-bin", "grub2-common", "init-system-helpers", "initramfs-tools", "kmod", "linux-image-cloud-amd64",
		"openssh-server", "systemd", "systemd-sysv", "udev", "zstd",
	}
}

// vmTools are the Debian packages that this machine needs for virtual ones, each with a program of it.
func vmTools() map[string]string {
	return map[string]string{
		"qemu-system-x86": "qemu-system-x86_64", "qemu-utils": "qemu-img", "openssh-client": "ssh", "e2fsprogs": "mke2fs",
	}
}

// grubCore is GRUB behind the boot sector, in the root that it boots.
const grubCore = "boot/grub/core.img"

const grubModules = "biosdisk part_msdos ext2 normal linux serial terminal test configfile search echo ls minicmd reboot loadenv halt sleep"

// vmImage is what virtual machines are made from, in a directory of the cache:
//
//	disk.raw     the root file system as it was installed
//	booted.qcow2 what the disk was after the first boot, on top of disk.raw
//	booted       the memory and the devices of the machine that booted
//	key          what gets in as root
//	accel        how QEMU runs machines here: kvm or tcg
type vmImage struct{ dir string }

func (i vmImage) file(name string) string { return filepath.Join(i.dir, name) }

// vmRecipe says how the machines' disk is made.
type vmRecipe struct {
	recipe
	qemu string // its version: another one may not be able to load what this one saved
}

func newVMRecipe(ctx context.Context, extra []string, kind rootKind, kernel string) (vmRecipe, error) {
	out, err := exec.CommandContext(ctx, qemuProgram, "--version").Output()
	if err != nil {
		return vmRecipe{}, fmt.Errorf("ask QEMU for its version: %w", err)
	}
	version, _, _ := strings.Cut(string(out), "\n")
	r := vmRecipe{newRecipe(append(vmPackages(), extra...)), version}
	r.kind, r.kernel = kind, kernel
	return r, nil
}

func (r vmRecipe) path() string {
	sum := sha256.New()
	fmt.Fprintln(sum, r.recipe.hash(), r.qemu, machineArguments(accelTCG, 0), shellQuote(vmCustomize), shellQuote(settledScript))
	for _, f := range vmFiles() {
		fmt.Fprintln(sum, f.path, f.text)
	}
	return filepath.Join(cacheTop, "vm-"+hex.EncodeToString(sum.Sum(nil)[:6]))
}

// ensureVMImage returns the cached image with the kernel of a suite, and makes it first where it is missing.
func ensureVMImage(ctx context.Context, extra []string, kind rootKind, kernel string, progress io.Writer) (vmImage, error) {
	if err := installVMTools(ctx, progress); err != nil {
		return vmImage{}, err
	}
	r, err := newVMRecipe(ctx, extra, kind, kernel)
	if err != nil {
		return vmImage{}, err
	}
	unlock, err := lock(ctx, filepath.Base(r.path()))
	if err != nil {
		return vmImage{}, err
	}
	defer unlock()
	done := vmImage{r.path()}
	if _, err := os.Stat(done.dir); err == nil {
		return done, nil
	}
	tmp := vmImage{done.dir + partial}
	if err := removePartial(tmp.dir); err != nil {
		return vmImage{}, err
	}
	if err := installTools(ctx, progress); err != nil {
		return vmImage{}, err
	}
	if r.mirror, err = machineMirror(ctx); err != nil {
		return vmImage{}, err
	}
	fmt.Fprintf(progress, "making the disk of virtual machines with the kernel of %s from %s and booting it, once (about five minutes)\n",
		cmp.Or(r.kernel, BaseSuite), r.mirror.archive)
	if err := r.make(ctx, tmp, progress); err != nil {
		return vmImage{}, errors.Join(err, removePartial(tmp.dir))
	}
	return done, os.Rename(tmp.dir, done.dir)
}

// make makes all files of the image.
func (r vmRecipe) make(ctx context.Context, to vmImage, progress io.Writer) error {
	if err := os.Mkdir(to.dir, 0o700); err != nil {
		return err
	}
	keygen := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "drydock-lab", "-f", to.file("key"))
	if err := runQuietly(keygen); err != nil {
		return fmt.Errorf("key for the virtual machines: %w", err)
	}
	root := to.file("root")
	if err := r.build(ctx, root); err != nil {
		return err
	}
	if err := prepareRoot(ctx, root, to); err != nil {
		return err
	}
	if err := makeDisk(ctx, root, to.file("disk.raw")); err != nil {
		return err
	}
	accel, err := findAccelerator(ctx, root)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "virtual machines run with %s\n", accel)
	if err := os.WriteFile(to.file("accel"), []byte(accel), 0o644); err != nil {
		return err
	}
	if err := removeTree(root); err != nil {
		return err
	}
	return to.bootOnce(ctx)
}

// vmCustomize finishes a root from inside: the boot loader's core, and the kernel's initrd for QEMU's disk.
const vmCustomize = `set -e
ln -sf /dev/null /etc/systemd/system/getty@tty1.service
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer e2scrub_reap.service systemd-timesyncd.service; do
    ln -sf /dev/null /etc/systemd/system/$unit
done
systemctl enable systemd-networkd.service >/dev/null 2>&1
mkdir -p /boot/grub
cp -r /usr/lib/grub/i386-pc /boot/grub/
grub-mkimage -O i386-pc -o /` + grubCore + ` -p '(hd0,msdos1)/boot/grub' ` + grubModules + `
kernel=$(ls /boot/vmlinuz-* | tail -n 1)
kernel=${kernel#/boot/vmlinuz-}
update-initramfs -u -k "$kernel"
cat >/boot/grub/grub.cfg <<END
set timeout=0
serial --unit=0 --speed=115200
terminal_output serial
menuentry Debian {
    linux /boot/vmlinuz-$kernel ` + kernelArguments + `
    initrd /boot/initrd.img-$kernel
}
END
`

const kernelArguments = "root=/dev/vda1 rw console=ttyS0 net.ifnames=0 quiet"

// prepareRoot puts into a root what makes it a machine's.
func prepareRoot(ctx context.Context, root string, image vmImage) error {
	key, err := os.ReadFile(image.file("key.pub"))
	if err != nil {
		return err
	}
	for _, f := range append(vmFiles(), vmFile{"/root/.ssh/authorized_keys", string(key)}) {
		path := filepath.Join(root, f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.text), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "chroot", root, "/bin/sh", "-c", vmCustomize)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	if err := runQuietly(cmd); err != nil {
		return fmt.Errorf("finish the virtual machines' root: %w", err)
	}
	return nil
}

// installVMTools installs what this machine lacks, after saying so.
func installVMTools(ctx context.Context, progress io.Writer) error {
	var missing []string
	for name, program := range vmTools() {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return installPackages(ctx, progress, missing)
}
