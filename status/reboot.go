package status

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"

	"golang.org/x/sys/unix"
)

// debianVersion is the version of its package that Debian's kernels name in `uname -v`.
var debianVersion = regexp.MustCompile(`\bDebian (\S+)`)

// kernelStatus compares the kernel that runs with those that are installed and available.
func kernelStatus(release, build string, inventory *packages.Inventory) *drydockv1.KernelStatus {
	k := &drydockv1.KernelStatus{Running: release}
	if m := debianVersion.FindStringSubmatch(build); m != nil {
		k.RunningVersion = m[1]
	}
	if inventory == nil {
		return k
	}
	k.Installed, k.Available = inventory.Kernels, inventory.Available
	for _, have := range k.Installed {
		if have.Release == release && k.RunningVersion == "" {
			k.RunningVersion = have.Version
		}
	}
	return k
}

// kernelReason is why the kernel asks for a reboot, or nil. A kernel that is of none of the host's packages asks for none: what
// to boot is then decided elsewhere.
func kernelReason(k *drydockv1.KernelStatus) *drydockv1.RebootReason {
	if len(k.Installed) == 0 {
		return nil
	}
	newest := k.Installed[0]
	known := slices.ContainsFunc(k.Installed, func(have *drydockv1.Kernel) bool { return have.Release == k.Running })
	switch {
	case newest.Release == k.Running && (k.RunningVersion == "" || k.RunningVersion == newest.Version):
		return nil
	case newest.Release != k.Running && !known && k.RunningVersion == "":
		return nil
	}
	return &drydockv1.RebootReason{
		Cause: drydockv1.RebootCause_REBOOT_CAUSE_KERNEL, Packages: []string{newest.Package},
		Text: fmt.Sprintf("kernel %s (%s) runs, %s (%s) is installed", k.Running, cmp.Or(k.RunningVersion, "unknown version"), newest.Release, newest.Version),
	}
}

// requestedReason is what packages ask for through the file reboot-required, in the directory run.
func requestedReason(run string) (*drydockv1.RebootReason, error) {
	text, err := os.ReadFile(run + "/reboot-required")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	reason := &drydockv1.RebootReason{Cause: drydockv1.RebootCause_REBOOT_CAUSE_REQUESTED, Text: cmp.Or(strings.Trim(strings.TrimSpace(string(text)), "*"), "a package asks for it")}
	reason.Text = strings.TrimSpace(reason.Text)
	pkgs, err := os.ReadFile(run + "/reboot-required.pkgs")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return reason, err
	}
	for line := range bytes.Lines(pkgs) {
		reason.Packages = append(reason.Packages, string(bytes.TrimSpace(line)))
	}
	slices.Sort(reason.Packages)
	reason.Packages = slices.Compact(reason.Packages)
	return reason, nil
}

// coreReason names the packages that everything stands on and that were replaced since the boot.
func coreReason(core []packages.Installed, booted time.Time) *drydockv1.RebootReason {
	var names []string
	for _, p := range core {
		if p.At.After(booted) {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &drydockv1.RebootReason{
		Cause: drydockv1.RebootCause_REBOOT_CAUSE_CORE_PACKAGE, Packages: names,
		Text: strings.Join(names, ", ") + " replaced since the boot of " + booted.UTC().Format("2006-01-02 15:04"),
	}
}

// bootTime is when the first process began. On a machine that is its boot, but for a moment; in a namespaced host of a lab it is
// what stands for its boot.
func bootTime(proc string, now time.Time) (time.Time, error) {
	data, err := os.ReadFile(proc + "/1/stat")
	if err != nil {
		return time.Time{}, err
	}
	_, rest, _ := strings.Cut(string(data[bytes.LastIndexByte(data, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return time.Time{}, fmt.Errorf("%s/1/stat holds %q", proc, data)
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, err
	}
	// The kernel counts in hundredths of a second for programs, whatever it uses itself (USER_HZ).
	return now.Add(time.Duration(ticks)*10*time.Millisecond - time.Duration(up.Nano())), nil
}
