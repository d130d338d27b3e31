// Package filesync brings a directory tree - a container's writable overlay layer or a local volume - from one host to
// another in repeated passes, the last of them inside the freeze. It reads and writes plain streams; the caller carries the
// bytes.
//
// After a final pass the target holds every name, inode and byte of the source: regular files with their holes, directories,
// symbolic links, FIFOs, socket nodes, devices and overlay whiteouts, hard links, owners, modes, extended attributes and
// modification times to the nanosecond. Access times, and space that was preallocated but never written, are not kept.
//
// A source must be a directory of one plain file system whose clock is this host's (not a merged overlay, not NFS). A mount
// point inside it is refused by name.
//
// # What counts as unchanged
//
// An entry is not read again while inode, type, mode, owner, size, mtime and ctime are what they were when it was last sent.
// Two things can hide a change from that, and both are dealt with:
//
//   - A clock tick that holds two changes. An entry whose ctime is not older than the start of the pass, less a margin above
//     the granularity of the time stamps, is examined again by the next pass, as git does with its index.
//   - Stores through a shared mapping. The kernel touches mtime and ctime only when a page goes from clean to dirty; further
//     stores to a page that is dirty already leave no trace. [PassOptions.Sync] writes everything back before the pass, and
//     so arms that fault again: a ctime older than the start of the write-back then proves that no page of the file was
//     dirtied since. It belongs on every pass but the final one. What lives in memory alone - tmpfs, ramfs - has no write-back
//     and so never arms the fault again, and not every other file system is known to touch the times. There, every pass
//     reads every regular file; a mapping that is gone again by the final pass may have been stored through, so that it
//     would not be enough to look at those that are left.
//
// # Passes
//
// A pass holds what differs from the pass before. Whichever side fails, the next pass has to be a complete one: a [Source]
// whose Pass failed makes it so by itself, after a failure elsewhere the caller says [Source.Reset]. A [Target] refuses a
// pass that does not follow the last one it applied whole.
package filesync
