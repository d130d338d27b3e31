package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A machine's disk as a BIOS boots it: GRUB's first sector and its partition table, GRUB's core behind it, and one ext4
// partition.
const (
	sectorSize     = 512
	diskSize       = 4 << 30
	partitionStart = 1 << 20
	bootCodeSize   = 440 // what of the first sector is code; a disk signature and the partition table follow
	tableAt        = 446
	linuxPartition = 0x83
)

// makeDisk makes a bootable disk of the root file system in root. No loop device is needed.
func makeDisk(ctx context.Context, root, disk string) error {
	boot, err := os.ReadFile(filepath.Join(root, "usr/lib/grub/i386-pc/boot.img"))
	if err != nil {
		return fmt.Errorf("boot sector: %w", err)
	}
	core, err := os.ReadFile(filepath.Join(root, grubCore))
	if err != nil {
		return fmt.Errorf("boot loader: %w", err)
	}
	if len(core) > partitionStart-sectorSize || len(boot) < bootCodeSize {
		return fmt.Errorf("boot loader of %d bytes, boot sector of %d: do not fit", len(core), len(boot))
	}
	f, err := os.OpenFile(disk, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(diskSize); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	mke2fs := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-E", fmt.Sprint("offset=", partitionStart),
		"-d", root, disk, fmt.Sprintf("%dk", (diskSize-partitionStart)>>10))
	if err := runQuietly(mke2fs); err != nil {
		return fmt.Errorf("file system of the disk: %w", err)
	}
	_, err = f.WriteAt(firstSector(boot), 0)
	_, cerr := f.WriteAt(core, sectorSize)
	if err = errors.Join(err, cerr); err != nil {
		return fmt.Errorf("boot loader: %w", err)
	}
	return nil
}

// firstSector is GRUB's boot code, which looks for its core in the next sector, with a table of one active partition.
func firstSector(boot []byte) []byte {
	sector := make([]byte, sectorSize)
	copy(sector, boot[:bootCodeSize])
	entry := sector[tableAt:]
	unused := [3]byte{0xfe, 0xff, 0xff} // cylinder, head and sector where only the sectors' numbers count
	entry[0] = 0x80
	copy(entry[1:4], unused[:])
	entry[4] = linuxPartition
	copy(entry[5:8], unused[:])
	binary.LittleEndian.PutUint32(entry[8:], partitionStart/sectorSize)
	binary.LittleEndian.PutUint32(entry[12:], (diskSize-partitionStart)/sectorSize)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}
