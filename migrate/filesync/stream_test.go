package filesync

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// recorded returns a pass over a tree with some of everything that needs no privilege.
func recorded(t testing.TB) []byte {
	t.Helper()
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "d/e"), 0o755))
	must(os.WriteFile(filepath.Join(root, "d/f"), []byte("content"), 0o644))
	must(os.Truncate(filepath.Join(root, "d/f"), 100_000))
	must(os.Link(filepath.Join(root, "d/f"), filepath.Join(root, "g")))
	must(os.Symlink("d", filepath.Join(root, "l")))
	must(unix.Mkfifo(filepath.Join(root, "p"), 0o600))
	must(unix.Lsetxattr(filepath.Join(root, "g"), "user.k", []byte("v"), 0))
	source, err := NewSource(root)
	must(err)
	defer source.Close()
	var wire bytes.Buffer
	_, err = source.Pass(context.Background(), &wire, PassOptions{Final: true})
	must(err)
	return wire.Bytes()
}

func newTarget(t testing.TB) *Target {
	t.Helper()
	target, err := NewTarget(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

func TestAStreamCutAnywhereIsReportedAsCut(t *testing.T) {
	t.Parallel()
	wire, target := recorded(t), newTarget(t)
	for n := range len(wire) {
		_, err := target.Apply(context.Background(), bytes.NewReader(wire[:n]))
		if !errors.Is(err, ErrCut) {
			t.Fatalf("cut after %d of %d bytes: got %v", n, len(wire), err)
		}
		if target.Complete() {
			t.Fatalf("cut after %d bytes: the target says that it is complete", n)
		}
	}
	if _, err := target.Apply(context.Background(), bytes.NewReader(wire)); err != nil {
		t.Fatalf("the whole stream after cut ones: %v", err)
	}
}

func TestAFlippedBitAnywhereIsReported(t *testing.T) {
	t.Parallel()
	wire, target := recorded(t), newTarget(t)
	for n := range len(wire) {
		bad := bytes.Clone(wire)
		bad[n] ^= 1 << (n % 8)
		if _, err := target.Apply(context.Background(), bytes.NewReader(bad)); err == nil {
			t.Fatalf("a flipped bit in byte %d of %d went unnoticed", n, len(wire))
		}
	}
}

func TestAnUnknownVersionIsRefusedNamingBoth(t *testing.T) {
	wire := recorded(t)
	binary.BigEndian.PutUint16(wire[len(magic):], 7)
	_, err := newTarget(t).Apply(context.Background(), bytes.NewReader(wire))
	if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 7") || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("got %v", err)
	}
}

func TestAPassThatDoesNotFollowIsRefusedUntilTheSourceIsReset(t *testing.T) {
	ctx := context.Background()
	p := newPair(t)
	d := dir{t, p.from}
	p.pass(t, PassOptions{})
	d.write("a", "lost")
	if _, err := p.source.Pass(ctx, io.Discard, PassOptions{}); err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if _, err := p.source.Pass(ctx, &wire, PassOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.target.Apply(ctx, &wire); !errors.Is(err, ErrOrder) {
		t.Fatalf("after a lost pass: got %v", err)
	}
	p.source.Reset()
	p.pass(t, PassOptions{Final: true})
	p.equal(t)
}

func TestAPassAfterAFailedOneIsComplete(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.from}
	d.write("a", "x")
	p.pass(t, PassOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.source.Pass(ctx, io.Discard, PassOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled pass: got %v", err)
	}
	os.WriteFile(filepath.Join(p.to, "left over"), nil, 0o644)
	p.pass(t, PassOptions{Final: true})
	p.equal(t)
}

func TestPassesCanFollowEachOtherOnOneConnection(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.from}
	var wire bytes.Buffer
	for _, content := range []string{"one", "two", "three"} {
		d.write("a", content)
		if _, err := p.source.Pass(context.Background(), &wire, PassOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := p.target.Apply(context.Background(), &wire); err != nil {
			t.Fatal(err)
		}
	}
	p.equal(t)
}

// forged is a stream with right sums, made of records.
func forged(t testing.TB, records ...record) *bytes.Buffer {
	t.Helper()
	var wire bytes.Buffer
	e := newEncoder(&wire)
	if err := e.start(begin{flags: flagComplete}); err != nil {
		t.Fatal(err)
	}
	var stats Stats
	for _, r := range records {
		if r.op == opData {
			r.sum = blockSum(r.segments, r.data)
			stats.Bytes += int64(len(r.data))
		}
		if err := e.emit(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.end(stats); err != nil {
		t.Fatal(err)
	}
	return &wire
}

func TestHostileStreamsAreRefusedAndTouchNothingOutside(t *testing.T) {
	data := []record{{op: opFile, path: "l", size: 4}, {op: opData, segments: []segment{{0, 4}}, data: []byte("evil")}}
	meta := metadata{mode: unix.S_IFREG | 0o777}.append(nil)
	huge := record{op: opNode, path: "n", mode: unix.S_IFREG}
	tests := []struct {
		name    string
		want    error // nil: any
		records []record
	}{
		{"a parent", ErrUnsafe, []record{{op: opCreate, path: "../x"}}},
		{"a parent further in", ErrUnsafe, []record{{op: opMkdir, path: "d"}, {op: opCreate, path: "d/../../x"}}},
		{"an absolute name", ErrUnsafe, []record{{op: opCreate, path: "/tmp/x"}}},
		{"an empty name", ErrUnsafe, []record{{op: opCreate, path: ""}}},
		{"a dot", ErrUnsafe, []record{{op: opRmdir, path: "."}}},
		{"a zero byte", ErrUnsafe, []record{{op: opCreate, path: "a\x00b"}}},
		{"a trailing slash", ErrUnsafe, []record{{op: opMkdir, path: "a/"}}},
		{"a way through a link", ErrUnsafe, []record{{op: opSymlink, path: "l", other: "OUTSIDE"}, {op: opCreate, path: "l/x"}}},
		{"a removal through a link", ErrUnsafe, []record{{op: opSymlink, path: "l", other: "OUTSIDE"}, {op: opRemove, path: "l/victim"}}},
		{"a hard link from outside", ErrUnsafe, []record{{op: opLink, path: "x", other: "../outside/victim"}}},
		{"a hard link through a link", ErrUnsafe, []record{{op: opSymlink, path: "l", other: "OUTSIDE"}, {op: opLink, path: "x", other: "l/victim"}}},
		{"content through a link", ErrUnsafe, append([]record{{op: opSymlink, path: "l", other: "OUTSIDE/victim"}}, data...)},
		{"content into a FIFO", ErrUnsafe, append([]record{{op: opNode, path: "l", mode: unix.S_IFIFO}}, data...)},
		{"metadata through a link", ErrCorrupt, []record{{op: opSymlink, path: "l", other: "OUTSIDE/victim"}, {op: opMeta, path: "l", meta: meta}}},
		{"a name twice", nil, []record{{op: opCreate, path: "x"}, {op: opCreate, path: "x"}}},
		{"content for nothing", ErrCorrupt, data[1:]},
		{"content beyond the end", ErrCorrupt, []record{{op: opCreate, path: "l"}, {op: opFile, path: "l", size: 2}, data[1]}},
		{"a node of a strange kind", ErrCorrupt, []record{huge}},
		{"a thing never put aside", ErrCorrupt, []record{{op: opPlace, path: "x", number: 1}}},
		{"a thing never brought back", ErrCorrupt, []record{{op: opCreate, path: "x"}, {op: opStash, path: "x", number: 1}}},
		{"a second beginning", ErrCorrupt, []record{{op: opBegin}}},
		{"an unknown operation", ErrCorrupt, []record{{op: 200}}},
		{"a size that cannot be", nil, []record{{op: opCreate, path: "x"}, {op: opFile, path: "x", size: 1<<63 - 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			top := dir{t, t.TempDir()}
			top.mkdir("outside")
			top.mkdir("root")
			top.write("outside/victim", "safe")
			before := describe(t, top.path("outside"))
			for i := range tt.records {
				tt.records[i].other = strings.Replace(tt.records[i].other, "OUTSIDE", top.path("outside"), 1)
			}
			target, err := NewTarget(top.path("root"))
			top.must(err)
			defer target.Close()
			_, err = target.Apply(context.Background(), forged(t, tt.records...))
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if after := describe(t, top.path("outside")); len(after) != 2 || after["victim"] != before["victim"] || after["."] != before["."] {
				t.Errorf("outside was %v and is %v", before, after)
			}
			if names, _ := os.ReadDir(top.root); len(names) != 2 {
				t.Errorf("beside the root there are %v", names)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(recorded(f))
	f.Add(forged(f, record{op: opCreate, path: "x"}, record{op: opStash, path: "x", number: 1}, record{op: opPlace, path: "y", number: 1}).Bytes())
	f.Fuzz(func(t *testing.T, wire []byte) {
		d := newDecoder(bytes.NewReader(wire))
		if _, err := d.start(); err != nil {
			return
		}
		for {
			r, err := d.next()
			if err != nil || r.op == opEnd {
				return
			}
			if r.op == opMeta {
				if _, err := parseMeta(r.meta); err != nil {
					t.Fatalf("metadata that was read cannot be parsed: %v", err)
				}
			}
		}
	})
}

// FuzzApply carries out records with right sums that make no sense, and looks whether anything beside the root changes.
func FuzzApply(f *testing.F) {
	f.Add([]byte{7, 4, 8, 4, 6, 16})
	f.Add([]byte{6, 0, 3, 4, 1, 0, 5, 2, 0, 8, 0, 1, 11, 1, 0})
	paths := []string{"a", "b", "d", "d/a", "d/d", "l", "l/a", "..", "../outside", "d/../../outside/victim", "/tmp", "d/d/a"}
	f.Fuzz(func(t *testing.T, script []byte) {
		top := dir{t, t.TempDir()}
		top.mkdir("outside")
		top.mkdir("root")
		top.write("outside/victim", "safe")
		before := describe(t, top.path("outside"))
		var records []record
		for ; len(script) >= 3; script = script[3:] {
			r := record{op: op(script[0]%15 + 1), path: paths[int(script[1])%len(paths)], other: paths[int(script[2])%len(paths)], number: uint64(script[2] % 4)}
			r.size, r.mode = int64(script[2]), unix.S_IFIFO
			r.meta = metadata{mode: []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK}[script[2]%3] | 0o777, uid: uint32(os.Getuid()), gid: uint32(os.Getgid())}.append(nil)
			if r.op == opSymlink {
				r.other = top.path("outside")
			}
			if r.op == opData {
				r.segments, r.data = []segment{{0, 4}}, []byte("evil")
			}
			if r.op != opEnd {
				records = append(records, r)
			}
		}
		target, err := NewTarget(top.path("root"))
		top.must(err)
		defer target.Close()
		target.Apply(context.Background(), forged(t, records...))
		if after := describe(t, top.path("outside")); len(after) != 2 || after["victim"] != before["victim"] || after["."] != before["."] {
			t.Errorf("outside was %v and is %v", before, after)
		}
		if names, _ := os.ReadDir(top.root); len(names) != 2 {
			t.Errorf("beside the root there are %v", names)
		}
	})
}
