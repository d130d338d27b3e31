package filesync

import (
	"slices"

	"golang.org/x/sys/unix"
)

// tracing are the file systems that are known to touch the times of a file before the first store through a shared mapping
// to a page that was written back. See vma_wants_writenotify in the kernel's mm/mmap.c: it takes a write-back, which arms the
// fault, and a page_mkwrite that calls file_update_time.
var tracing = []int64{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.BCACHEFS_SUPER_MAGIC,
}

// tracesStores tells whether the file system of an open directory does so.
func tracesStores(fd int) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return false, err
	}
	return slices.Contains(tracing, int64(fs.Type)), nil
}
