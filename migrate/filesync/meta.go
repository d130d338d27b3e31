package filesync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// metadata is what an inode has beside its content. Encoded, it is compared as bytes.
type metadata struct {
	mode, uid, gid uint32
	mtime          unix.Timespec
	xattrs         []xattr // by name
}

type xattr struct{ name, value string }

func (m metadata) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(m.mode))
	b = binary.AppendUvarint(b, uint64(m.uid))
	b = binary.AppendUvarint(b, uint64(m.gid))
	b = binary.AppendUvarint(b, uint64(m.mtime.Sec))
	b = binary.AppendUvarint(b, uint64(m.mtime.Nsec))
	b = binary.AppendUvarint(b, uint64(len(m.xattrs)))
	for _, x := range m.xattrs {
		b = appendString(b, x.name)
		b = appendString(b, x.value)
	}
	return b
}

// parseMeta decodes what a decoder has found well formed.
func parseMeta(b []byte) (m metadata, err error) {
	d := &decoder{rest: b, r: bytes.NewReader(nil)}
	m.mode, m.uid, m.gid = d.uint32(&err), d.uint32(&err), d.uint32(&err)
	m.mtime.Sec = int64(d.uint64(&err))
	m.mtime.Nsec = int64(d.uint32(&err))
	for n := d.uint64(&err); err == nil && n > 0; n-- {
		m.xattrs = append(m.xattrs, xattr{d.string(maxXattrName, &err), d.string(maxXattrValue, &err)})
	}
	return m, err
}

// readMeta returns the metadata of the inode that fd is a handle of, with the stat st.
func readMeta(fd int, st stat) (metadata, error) {
	xattrs, err := readXattrs(fd)
	return metadata{mode: st.mode, uid: st.uid, gid: st.gid, mtime: st.mtime, xattrs: xattrs}, err
}

func readXattrs(fd int) ([]xattr, error) {
	path := handlePath(fd)
	list, err := readAll(func(b []byte) (int, error) { return unix.Listxattr(path, b) })
	if errors.Is(err, unix.EOPNOTSUPP) || len(list) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var xattrs []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value, err := readAll(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed since; its ctime says so
		}
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		xattrs = append(xattrs, xattr{name, string(value)})
	}
	slices.SortFunc(xattrs, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return xattrs, nil
}

// readAll calls read with a buffer that is large enough.
func readAll(read func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 512)
	for {
		n, err := read(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || len(buf) > 1<<20 {
			return nil, err
		}
		buf = make([]byte, len(buf)*4)
	}
}

// write makes the inode that fd is a handle of have m. The order matters: changing the owner clears the set-user-ID bit
// and file capabilities, an ACL changes the mode.
func (m metadata) write(fd int) error {
	if err := unix.Fchownat(fd, "", int(m.uid), int(m.gid), unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("set owner to %d:%d: %w", m.uid, m.gid, err)
	}
	if err := m.writeXattrs(fd); err != nil {
		return err
	}
	if m.mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(handlePath(fd), m.mode&0o7777); err != nil {
			return fmt.Errorf("set mode to %#o: %w", m.mode&0o7777, err)
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, m.mtime}
	if err := unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("set mtime: %w", err)
	}
	return nil
}

func (m metadata) writeXattrs(fd int) error {
	have, err := readXattrs(fd)
	if err != nil {
		return err
	}
	path := handlePath(fd)
	for _, x := range have {
		unwanted := !slices.ContainsFunc(m.xattrs, func(w xattr) bool { return w.name == x.name })
		if unwanted && x.name != "security.selinux" { // every inode has that one, where any has
			if err := unix.Removexattr(path, x.name); err != nil && !errors.Is(err, unix.ENODATA) {
				return fmt.Errorf("remove extended attribute %s: %w", x.name, err)
			}
		}
	}
	for _, x := range m.xattrs {
		if slices.Contains(have, x) {
			continue
		}
		if err := unix.Setxattr(path, x.name, []byte(x.value), 0); err != nil {
			return fmt.Errorf("set extended attribute %s: %w", x.name, err)
		}
	}
	return nil
}
