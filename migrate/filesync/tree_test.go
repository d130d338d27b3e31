package filesync

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// facts is all that must be equal of an entry.
type facts struct {
	Mode, UID, GID uint32
	Rdev           uint64
	Size           int64
	Mtime          string
	Link           string
	Content        string
	Data           string // where data lies
	Xattrs         string
	SameAs         string // first name of the same inode
}

// describe returns what is in a tree, by path.
func describe(t *testing.T, root string) map[string]facts {
	t.Helper()
	tree, first := make(map[string]facts), make(map[uint64]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		f := facts{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Rdev: uint64(st.Rdev), Mtime: fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)}
		f.Xattrs, err = describeXattrs(path)
		if err != nil {
			return err
		}
		if !d.IsDir() {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			f.SameAs = first[st.Ino]
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			f.Link, err = os.Readlink(path)
		case unix.S_IFREG:
			f.Size = st.Size
			f.Content, f.Data, err = describeContent(path, st.Size)
		}
		tree[rel] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func describeXattrs(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", err
	}
	var all []string
	for _, name := range bytes.Split(bytes.TrimSuffix(buf[:n], []byte{0}), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf("%s=%x", name, value[:n]))
	}
	sort.Strings(all)
	return fmt.Sprint(all), nil
}

func describeContent(path string, size int64) (sum, data string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	for end := int64(0); end < size; {
		start, err := unix.Seek(int(f.Fd()), end, unix.SEEK_DATA)
		if err != nil {
			break
		}
		if end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE); err != nil {
			return "", "", err
		}
		data += fmt.Sprintf("[%d,%d)", start, end)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), data, nil
}

// pair is a source and a target with their directories.
type pair struct {
	from, to string
	source   *Source
	target   *Target
	sent     int // bytes of the last pass on the wire
}

func newPair(t *testing.T) *pair {
	t.Helper()
	return newPairFrom(t, t.TempDir())
}

// newPairFrom is a pair whose source is a given directory.
func newPairFrom(t *testing.T, from string) *pair {
	t.Helper()
	p := &pair{from: from, to: t.TempDir()}
	var err error
	if p.source, err = NewSource(p.from); err != nil {
		t.Fatal(err)
	}
	if p.target, err = NewTarget(p.to); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.source.Close()
		p.target.Close()
	})
	return p
}

// pass makes one pass from source to target.
func (p *pair) pass(t *testing.T, o PassOptions) Stats {
	t.Helper()
	var wire bytes.Buffer
	sent, err := p.source.Pass(context.Background(), &wire, o)
	if err != nil {
		t.Fatal(err)
	}
	p.sent = wire.Len()
	got, err := p.target.Apply(context.Background(), &wire)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("the sides count differently (-source +target):\n%s", diff)
	}
	if wire.Len() != 0 {
		t.Errorf("Apply left %d bytes", wire.Len())
	}
	return sent
}

func (p *pair) equal(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(describe(t, p.from), describe(t, p.to)); diff != "" {
		t.Fatalf("the trees differ (-source +target):\n%s", diff)
	}
}

// tree gives short names to what tests do to a directory.
type dir struct {
	*testing.T
	root string
}

func (d dir) path(name string) string { return filepath.Join(d.root, name) }

func (d dir) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d dir) write(name, content string) {
	d.Helper()
	d.must(os.WriteFile(d.path(name), []byte(content), 0o644))
}

func (d dir) mkdir(name string)         { d.Helper(); d.must(os.MkdirAll(d.path(name), 0o755)) }
func (d dir) rename(from, to string)    { d.Helper(); d.must(os.Rename(d.path(from), d.path(to))) }
func (d dir) remove(name string)        { d.Helper(); d.must(os.RemoveAll(d.path(name))) }
func (d dir) link(from, to string)      { d.Helper(); d.must(os.Link(d.path(from), d.path(to))) }
func (d dir) symlink(text, name string) { d.Helper(); d.must(os.Symlink(text, d.path(name))) }
func (d dir) xattr(name, key, value string) {
	d.Helper()
	d.must(unix.Lsetxattr(d.path(name), key, []byte(value), 0))
}

func (d dir) writeAt(name string, offset int64, content []byte) {
	d.Helper()
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE, 0o644)
	d.must(err)
	_, err = f.WriteAt(content, offset)
	d.must(err)
	d.must(f.Close())
}

func (d dir) punch(name string, offset, size int64) {
	d.Helper()
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	d.must(err)
	d.must(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, size))
	d.must(f.Close())
}

// same is equal for trees that may be too deep to be named, which are described only as far as names go.
func (p *pair) same(t *testing.T) {
	t.Helper()
	var wire discard
	check, err := NewSource(p.to)
	if err != nil {
		t.Fatal(err)
	}
	defer check.Close()
	got, err := check.Pass(context.Background(), &wire, PassOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(p.source.tree.nodes); got.Entries != want {
		t.Fatalf("the target has %d inodes, the source %d", got.Entries, want)
	}
	if got.Entries < 60 {
		p.equal(t)
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
