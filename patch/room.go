package patch

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

const (
	// kernelBytes is how much of /boot a kernel takes where none lies there to go by: its image, symbols and initial file system.
	kernelBytes = 128 << 20
	// spareBytes are left free on every disk that packages are written to.
	spareBytes = 64 << 20
)

// room says which disks are too full for a patch.
func (h *Host) room(p *drydockv1.Patch, found *Resolution, kernels *drydockv1.KernelStatus, archives string, remedies Remedies) ([]*drydockv1.Refusal, error) {
	needs := []need{
		{path: "/usr", bytes: found.DiskBytes, what: "the packages once they are installed", remedy: "free some room on the host"},
		{path: h.cfg.Dir, bytes: p.DownloadBytes, what: "the package files", remedy: "free some room on the host"},
	}
	if archives != "" {
		needs = append(needs, need{path: archives, bytes: p.DownloadBytes, what: "the package files", remedy: "free some room on the host, " + remedies.Clean})
	}
	var reasons []*drydockv1.Refusal
	disks := make(map[uint64]need)
	for _, n := range needs {
		dev, _, err := disk(n.path)
		if err != nil {
			return nil, err
		}
		if before, found := disks[dev]; found {
			n.bytes, n.path, n.remedy = n.bytes+before.bytes, before.path, before.remedy
			n.what = before.what + " and " + n.what
		}
		disks[dev] = n
	}
	for _, n := range disks {
		reasons = append(reasons, n.refusal(spareBytes)...)
	}
	if len(found.Kernels) > 0 {
		if _, _, err := disk(h.cfg.BootDir); err == nil {
			boot := need{path: h.cfg.BootDir, bytes: h.kernelSize(kernels), what: "kernel " + found.Kernels[0].Release,
				remedy: "remove kernels that are not needed any more from the host: " + remedies.OldKernels}
			reasons = append(reasons, boot.refusal(0)...)
		}
	}
	return reasons, nil
}

// need is room that must be on the disk that a path is on.
type need struct {
	path         string
	bytes        int64
	what, remedy string
}

func (n need) refusal(spare int64) []*drydockv1.Refusal {
	_, free, err := disk(n.path)
	if err != nil || free >= n.bytes+spare {
		return nil
	}
	return []*drydockv1.Refusal{Refusal(n.remedy, "%s has %s free, and %s needs %s", n.path,
		humanize.IBytes(uint64(free)), n.what, humanize.IBytes(uint64(n.bytes+spare)))}
}

// disk is what a path is on, or will be on once it is made, and how much is free there.
func disk(path string) (dev uint64, free int64, err error) {
	var stat unix.Stat_t
	for {
		err = unix.Stat(path, &stat)
		if !errors.Is(err, fs.ErrNotExist) || path == "/" {
			break
		}
		path = filepath.Dir(path)
	}
	var room unix.Statfs_t
	if err == nil {
		err = unix.Statfs(path, &room)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("room on the disk of %s: %w", path, err)
	}
	return stat.Dev, int64(room.Bavail) * room.Bsize, nil
}

// kernelSize is what the newest kernel here takes in /boot, and once more its initial file system, which is made beside the old one.
func (h *Host) kernelSize(kernels *drydockv1.KernelStatus) int64 {
	if len(kernels.GetInstalled()) == 0 {
		return kernelBytes
	}
	var sum int64
	release := kernels.Installed[0].Release
	kernel := "vmlinuz-" + release
	for name, times := range map[string]int64{
		kernel: 1, "initrd.img-" + release: 2, "initramfs-" + release + ".img": 2, "System.map-" + release: 1, "config-" + release: 1,
	} {
		var stat unix.Stat_t
		if unix.Stat(filepath.Join(h.cfg.BootDir, name), &stat) == nil {
			sum += stat.Size * times
		} else if name == kernel {
			return kernelBytes
		}
	}
	return sum
}
