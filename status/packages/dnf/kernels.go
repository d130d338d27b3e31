package dnf

import (
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

var (
	// kernelPackages are those that bring a kernel's image.
	kernelPackages = []string{"kernel-core", "kernel-rt-core", "kernel-uek-core"}
	// corePackages are those that only a boot replaces everywhere.
	corePackages = []string{"glibc", "systemd", "dbus", "dbus-daemon", "dbus-broker", "linux-firmware", "microcode_ctl"}
)

// KernelOf is the kernel that a package brings, nil where it brings none.
func KernelOf(name, evr, arch string) *drydockv1.Kernel {
	if !slices.Contains(kernelPackages, name) {
		return nil
	}
	release := evr[strings.IndexByte(evr, ':')+1:] // without an epoch
	return &drydockv1.Kernel{Release: release + "." + arch, Package: name, Version: evr}
}

// IsCore says whether only a boot replaces a package everywhere.
func IsCore(name string) bool { return slices.Contains(corePackages, name) }

// KernelPackages are the names of those that bring a kernel.
func KernelPackages() []string { return slices.Clone(kernelPackages) }
