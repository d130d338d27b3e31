//go:build faults

package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The kernel that hosts lack. It is none that starts: reboots are simulated.
const (
	kernelName    = "linux-image-amd64"
	kernelRelease = "6.99.0+drydock-amd64"
)

// offerKernel gives hosts the package that stands for the newest kernel, and publishes a newer one, which brings a kernel.
func (r *roll) offerKernel() error {
	older, err := r.makePackage(kernelName, "1", "", "")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(older)
	if err != nil {
		return err
	}
	for _, host := range r.Hosts() {
		root, err := r.Root(host)
		if err == nil {
			err = os.WriteFile(filepath.Join(root, "var/tmp/kernel.deb"), data, 0o644)
		}
		if err == nil {
			err = r.onHosts([]string{host}, "dpkg", "-i", "/var/tmp/kernel.deb")
		}
		if err != nil {
			return err
		}
	}
	_, err = r.makePackage(kernelName, "2", "linux-image-"+kernelRelease, "")
	if err == nil {
		_, err = r.makePackage("linux-image-"+kernelRelease, "2", "", "boot/vmlinuz-"+kernelRelease)
	}
	return errors.Join(err, os.Remove(older), r.publish())
}

// fileBytes is more than a full disk has left.
const fileBytes = 4 << 20

// makePackage makes a package file in the archive's pool, with one large file where one is named.
func (r *roll) makePackage(name, version, depends, file string) (path string, err error) {
	tree := r.t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: lab <lab@drydock.invalid>\nDescription: %[1]s\n", name, version)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	err = errors.Join(os.Mkdir(filepath.Join(tree, "DEBIAN"), 0o755), os.WriteFile(filepath.Join(tree, "DEBIAN", "control"), []byte(control), 0o644))
	if file != "" {
		err = errors.Join(err, os.MkdirAll(filepath.Dir(filepath.Join(tree, file)), 0o755), os.WriteFile(filepath.Join(tree, file), make([]byte, fileBytes), 0o644))
	}
	if err != nil {
		return "", err
	}
	path = filepath.Join(r.archive.Pool(), fmt.Sprintf("%s_%s_amd64.deb", name, version))
	if out, err := exec.CommandContext(r.ctx, "dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make package %s: %w: %s", name, err, out)
	}
	return path, nil
}
