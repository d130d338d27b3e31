package filesync

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func random(size int) []byte {
	b := make([]byte, size)
	x := uint32(size) | 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// TestEveryKindOfChangeArrives makes a tree, passes it, changes it, passes it again, and compares after each.
func TestEveryKindOfChangeArrives(t *testing.T) {
	none := func(dir) {}
	tests := []struct {
		name         string
		make, change func(d dir)
	}{
		{"an empty tree", none, none},
		{"a file", func(d dir) { d.write("a", "one") }, func(d dir) { d.write("a", "two") }},
		{"a file that grows", func(d dir) { d.write("a", "one") }, func(d dir) { d.writeAt("a", 3, random(200_000)) }},
		{"a file that shrinks", func(d dir) { d.writeAt("a", 0, random(200_000)) }, func(d dir) { d.must(os.Truncate(d.path("a"), 70_001)) }},
		{"a file cut to nothing", func(d dir) { d.writeAt("a", 0, random(200_000)) }, func(d dir) { d.must(os.Truncate(d.path("a"), 0)) }},
		{"a file cut and grown again", func(d dir) { d.writeAt("a", 0, random(200_000)) }, func(d dir) {
			d.must(os.Truncate(d.path("a"), 10))
			d.must(os.Truncate(d.path("a"), 200_000))
		}},
		{"an empty file", func(d dir) { d.write("a", "") }, func(d dir) { d.write("b", "") }},
		{"a sparse file", func(d dir) { d.writeAt("a", 10<<20, []byte("far")) }, func(d dir) { d.writeAt("a", 5<<20+4096, []byte("between")) }},
		{"a file that is one hole", func(d dir) {
			d.write("a", "")
			d.must(os.Truncate(d.path("a"), 1<<40))
			d.must(os.Truncate(d.path("a"), 1<<20))
		}, none},
		{"a hole punched later", func(d dir) { d.writeAt("a", 0, random(1<<20)) }, func(d dir) { d.punch("a", 128<<10, 256<<10) }},
		{"a small hole punched later", func(d dir) { d.writeAt("a", 0, random(1<<20)) }, func(d dir) { d.punch("a", 8192, 4096) }},
		{"a hole at the end", func(d dir) { d.writeAt("a", 0, random(300_000)) }, func(d dir) { d.punch("a", 100<<10, 1<<20) }},
		{"directories", func(d dir) { d.mkdir("a/b/c") }, func(d dir) { d.remove("a/b"); d.mkdir("a/d") }},
		{"a directory that becomes a file", func(d dir) { d.mkdir("a/b"); d.write("a/b/c", "x") }, func(d dir) { d.remove("a"); d.write("a", "file") }},
		{"a file that becomes a directory", func(d dir) { d.write("a", "x") }, func(d dir) { d.remove("a"); d.mkdir("a/b") }},
		{"a file that becomes a link", func(d dir) { d.write("a", "x") }, func(d dir) { d.remove("a"); d.symlink("/etc/passwd", "a") }},
		{"a link that becomes a file", func(d dir) { d.symlink("/etc/passwd", "a") }, func(d dir) { d.remove("a"); d.write("a", "x") }},
		{"a link with another text", func(d dir) { d.symlink("one", "a") }, func(d dir) { d.remove("a"); d.symlink("two", "a") }},
		{"links renamed into each other", func(d dir) { d.symlink("one", "a"); d.symlink("two", "b") }, func(d dir) { d.rename("a", "c"); d.rename("b", "a"); d.rename("c", "b") }},
		{"a rename", func(d dir) { d.write("a", "x") }, func(d dir) { d.rename("a", "b") }},
		{"a rename over another", func(d dir) { d.write("a", "x"); d.write("b", "y") }, func(d dir) { d.rename("a", "b") }},
		{"an exchange", func(d dir) { d.write("a", "x"); d.write("b", "y") }, func(d dir) { d.rename("a", "c"); d.rename("b", "a"); d.rename("c", "b") }},
		{"a directory renamed", func(d dir) { d.mkdir("a/b"); d.write("a/b/f", "x") }, func(d dir) { d.rename("a", "z") }},
		{"a directory turned inside out", func(d dir) { d.mkdir("a/b"); d.write("a/f", "1"); d.write("a/b/f", "2") }, func(d dir) {
			d.rename("a/b", "t")
			d.rename("a", "t/a")
			d.rename("t", "b")
		}},
		{"a file moved out of a removed directory", func(d dir) { d.mkdir("a/b"); d.write("a/b/f", "x") }, func(d dir) { d.rename("a/b/f", "f"); d.remove("a") }},
		{"a directory replaced by its child", func(d dir) { d.mkdir("a/a"); d.write("a/a/f", "x") }, func(d dir) { d.rename("a/a", "t"); d.remove("a"); d.rename("t", "a") }},
		{"hard links", func(d dir) { d.write("a", "x"); d.link("a", "b") }, func(d dir) { d.mkdir("s"); d.link("b", "s/c"); d.remove("a") }},
		{"a hard link that is broken", func(d dir) { d.write("a", "x"); d.link("a", "b") }, func(d dir) { d.remove("b"); d.write("b", "x") }},
		{"files that become one", func(d dir) { d.write("a", "x"); d.write("b", "x") }, func(d dir) { d.remove("b"); d.link("a", "b") }},
		{"a hard link into a directory that moves", func(d dir) { d.mkdir("y"); d.write("y/f", "x") }, func(d dir) { d.rename("y", "z"); d.link("z/f", "a") }},
		{"all names of a file changed", func(d dir) { d.write("a", "x"); d.link("a", "b") }, func(d dir) { d.rename("a", "c"); d.rename("b", "d") }},
		{"a symbolic link with two names", func(d dir) { d.symlink("x", "a"); d.link("a", "b") }, func(d dir) { d.remove("a") }},
		{"a FIFO", func(d dir) { d.must(unix.Mkfifo(d.path("a"), 0o640)) }, func(d dir) { d.must(unix.Mkfifo(d.path("b"), 0o600)); d.remove("a") }},
		{"a socket", func(d dir) { d.must(unix.Mknod(d.path("a"), unix.S_IFSOCK|0o700, 0)) }, func(d dir) { d.rename("a", "b") }},
		{"modes", func(d dir) { d.write("a", "x"); d.must(unix.Chmod(d.path("a"), 0o4711)) }, func(d dir) { d.must(unix.Chmod(d.path("a"), 0o2640)) }},
		{"a sticky directory", func(d dir) { d.mkdir("a"); d.must(unix.Chmod(d.path("a"), 0o1777)) }, func(d dir) { d.write("a/f", "") }},
		{"extended attributes", func(d dir) { d.write("a", "x"); d.xattr("a", "user.one", "1"); d.xattr("a", "user.two", "") }, func(d dir) {
			d.must(unix.Lremovexattr(d.path("a"), "user.one"))
			d.xattr("a", "user.two", strings.Repeat("2", 1000))
		}},
		{"names with any bytes", func(d dir) { d.write("\xff\xfe\n\t ", "x"); d.mkdir("...") }, func(d dir) { d.write(".../-\\\"'", "y"); d.write(strings.Repeat("n", 255), "") }},
		{"a time set back", func(d dir) { d.mkdir("a"); d.write("a/f", "x") }, func(d dir) {
			d.write("a/g", "y")
			at := time.Unix(1_000_000_000, 123_456_789)
			d.must(os.Chtimes(d.path("a"), at, at))
			d.must(os.Chtimes(d.path("a/f"), at, at))
		}},
		{"a time before 1970", func(d dir) { d.write("a", "x"); at := time.Unix(-5, 7); d.must(os.Chtimes(d.path("a"), at, at)) }, none},
		{"a directory whose time hides a removal", func(d dir) { d.mkdir("a"); d.write("a/f", "x"); d.write("a/g", "x") }, func(d dir) {
			st, err := os.Stat(d.path("a"))
			d.must(err)
			d.remove("a/f")
			d.must(os.Chtimes(d.path("a"), st.ModTime(), st.ModTime()))
		}},
		{"content whose time and size hide it", func(d dir) { d.write("a", "one") }, func(d dir) {
			st, err := os.Stat(d.path("a"))
			d.must(err)
			d.write("a", "two")
			d.must(os.Chtimes(d.path("a"), st.ModTime(), st.ModTime()))
		}},
		{"a changed file under a new name", func(d dir) { d.writeAt("a", 0, random(300_000)) }, func(d dir) { d.rename("a", "b"); d.writeAt("b", 70_000, []byte("!")) }},
		{"names deeper than PATH_MAX", func(d dir) { deepen(d, 30) }, func(d dir) { deepen(d, 35) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			d := dir{t, p.from}
			tt.make(d)
			p.pass(t, PassOptions{})
			p.same(t)
			tt.change(d)
			p.pass(t, PassOptions{Final: true})
			p.same(t)
			if !p.target.Complete() {
				t.Error("the target does not say that it is complete")
			}
			if s := p.pass(t, PassOptions{Final: true}); s.Bytes != 0 || s.Changed != 0 || s.Removed != 0 {
				t.Errorf("a pass over an unchanged tree sent %+v", s)
			}
			p.same(t)
		})
	}
}

// deepen makes directories of 200 bytes each, one in the other, and a file in each. No single path reaches the last.
func deepen(d dir, levels int) {
	fd, err := unix.Open(d.root, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	d.must(err)
	name := strings.Repeat("d", 200)
	for range levels {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil && err != unix.EEXIST {
			d.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		d.must(err)
		unix.Close(fd)
		fd = next
		f, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		d.must(err)
		_, err = unix.Write(f, []byte("x"))
		d.must(err)
		unix.Close(f)
	}
	unix.Close(fd)
}

func TestOnlyChangedBlocksOfALargeFileAreSentAgain(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.from}
	const size = 64 * blockSize
	d.writeAt("a", 0, random(size))
	if s := p.pass(t, PassOptions{}); s.Bytes != size || s.BytesSaved != 0 {
		t.Errorf("the first pass sent %+v", s)
	}
	d.writeAt("a", 7*blockSize+5, []byte("changed"))
	if s := p.pass(t, PassOptions{Final: true}); s.Bytes != blockSize || s.BytesSaved != size-blockSize {
		t.Errorf("the second pass sent %+v", s)
	}
	p.equal(t)
}

func TestARenamedFileIsNotSentAgain(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.from}
	d.mkdir("a/b")
	d.writeAt("a/b/f", 0, random(1<<20))
	p.pass(t, PassOptions{})
	d.rename("a/b/f", "g")
	d.rename("a", "c")
	if s := p.pass(t, PassOptions{Final: true}); s.Bytes != 0 {
		t.Errorf("the pass sent %+v", s)
	}
	p.equal(t)
}

func TestAnOldUnchangedFileIsNotExaminedAgain(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.from}
	d.write("a", "x")
	if s := p.pass(t, PassOptions{}); s.Unsettled == 0 {
		t.Errorf("a file just written counts as settled: %+v", s)
	}
	p.source.tree.root.entries[0].node.obj.unsure = false // as if it had been written long ago
	p.source.tree.root.obj.unsure = false
	if s := p.pass(t, PassOptions{}); s.Unsettled != 0 || s.BytesSaved != 1 {
		t.Errorf("the second pass counts %+v", s)
	}
}

func TestASyncedPassMakesLaterStoresThroughAMappingVisible(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.from}
	d.writeAt("a", 0, random(8192))
	f, err := os.OpenFile(d.path("a"), os.O_RDWR, 0)
	d.must(err)
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	d.must(err)
	defer unix.Munmap(page)
	for i := range 4 {
		page[1] = byte(i)
		p.pass(t, PassOptions{Sync: true})
		page[2] = byte(i) // a page that was dirty before the write-back
		page[4097] = byte(i)
	}
	p.pass(t, PassOptions{Final: true})
	p.equal(t)
}

func TestUsageCountsInodesOnceAndHolesNotAtAll(t *testing.T) {
	d := dir{t, t.TempDir()}
	d.mkdir("s")
	d.writeAt("s/a", 100<<20, bytes.Repeat([]byte("x"), 1<<20))
	d.link("s/a", "b")
	d.symlink("b", "l")
	size, files, err := Usage(d.root)
	d.must(err)
	if files != 4 || size < 1<<20 || size > 2<<20 {
		t.Errorf("got %d bytes in %d files", size, files)
	}
	if _, _, err := Usage(d.path("missing")); err == nil {
		t.Error("a missing directory takes up nothing")
	}
}
