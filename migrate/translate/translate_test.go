package translate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit"
	core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	rseqimage "github.com/checkpoint-restore/go-criu/v7/crit/images/rseq"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestARuleIsForPairsOfKernelsOnBothSidesOfWhatItIsAbout(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"6.1.0-40-cloud-amd64", "6.1.0-40-cloud-amd64", nil},
		{"6.1.0-40-cloud-amd64", "7.2.12+deb13-amd64", nil},
		{"6.12.94+deb13-amd64", "6.12.90+deb13-amd64", nil},
		{"7.2.12+deb13-amd64", "6.12.94+deb13-amd64", nil},
		{"6.12.94+deb13-amd64", "6.1.0-40-cloud-amd64", []string{"rseq", "droppable"}},
		{"7.2.12+deb13-amd64", "6.1.0-40-cloud-amd64", []string{"rseq", "droppable"}},
		{"6.9.1", "6.1.0", []string{"rseq"}},
		{"6.12.1", "6.6.1", []string{"droppable"}},
	} {
		var got []string
		for _, r := range Between(c.from, c.to) {
			got = append(got, r.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s to %s:\n%s", c.from, c.to, diff)
		}
	}
}

func TestEveryRuleSaysWhatItDoes(t *testing.T) {
	for _, r := range Rules() {
		if r.Name == "" || r.Since == "" || r.Does == "" || strings.ContainsAny(r.Name, " \n") {
			t.Errorf("%+v", r)
		}
	}
}

// encode writes an image with go-criu's codec, as CRIU would.
func encode(t *testing.T, path, magic string, entries ...proto.Message) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	image := &crit.CriuImage{Magic: magic}
	for _, e := range entries {
		image.Entries = append(image.Entries, &crit.CriuEntry{Message: e})
	}
	if err := crit.New(nil, file, "", false, false).Encode(image); err != nil {
		t.Fatal(err)
	}
}

// decode reads an image's first entry with go-criu's codec.
func decode[M proto.Message](t *testing.T, path string, kind M) M {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	image, err := crit.New(file, nil, "", false, false).Decode(kind)
	if err != nil {
		t.Fatal(err)
	}
	return image.Entries[0].Message.(M)
}

// later is a field that only a later CRIU knows.
func later(m proto.Message) {
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 7))
}

func mapping(start uint64, flags uint32, madv *uint64) *vma.VmaEntry {
	return &vma.VmaEntry{
		Start: proto.Uint64(start), End: proto.Uint64(start + pageSize), Pgoff: proto.Uint64(0), Shmid: proto.Uint64(0),
		Prot: proto.Uint32(3), Flags: proto.Uint32(flags), Status: proto.Uint32(1), Fd: proto.Int64(-1), Madv: madv,
	}
}

func memoryOf(vmas ...*vma.VmaEntry) *mm.MmEntry {
	zero := func() *uint64 { return proto.Uint64(0) }
	m := &mm.MmEntry{
		MmStartCode: zero(), MmEndCode: zero(), MmStartData: zero(), MmEndData: zero(), MmStartStack: zero(), MmStartBrk: zero(), MmBrk: zero(),
		MmArgStart: zero(), MmArgEnd: zero(), MmEnvStart: zero(), MmEnvEnd: zero(), ExeFileId: proto.Uint32(1), Vmas: vmas,
	}
	later(m)
	return m
}

func TestDroppableMappingsBecomePrivateOnesThatAChildFindsEmpty(t *testing.T) {
	dir := t.TempDir()
	const shared, private = unix.MAP_SHARED | unix.MAP_ANONYMOUS, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	encode(t, filepath.Join(dir, "mm-1.img"), "MM", memoryOf(mapping(0x1000, private, nil), mapping(0x2000, shared, nil)))
	encode(t, filepath.Join(dir, "mm-7.img"), "MM", memoryOf(
		mapping(0x1000, private, nil), mapping(0x2000, 0x4028, proto.Uint64(1<<unix.MADV_HUGEPAGE)), mapping(0x3000, shared, nil)))
	before := decode(t, filepath.Join(dir, "mm-1.img"), &mm.MmEntry{})
	edits := apply(t, droppable(), dir)
	if len(edits) != 1 || edits[0].Path != filepath.Join(dir, "mm-7.img") {
		t.Errorf("changed %v", edits)
	}
	want := memoryOf(mapping(0x1000, private, nil),
		mapping(0x2000, 0x4022, proto.Uint64(1<<unix.MADV_HUGEPAGE|1<<unix.MADV_WIPEONFORK|1<<unix.MADV_DONTDUMP)), mapping(0x3000, shared, nil))
	if diff := cmp.Diff(want, decode(t, filepath.Join(dir, "mm-7.img"), &mm.MmEntry{}), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, decode(t, filepath.Join(dir, "mm-1.img"), &mm.MmEntry{}), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// apply finds and applies a rule's changes, and tells when it would find them again.
func apply(t *testing.T, r Rule, dir string) []Edit {
	t.Helper()
	edits, err := r.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		if err := e.Apply(); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := r.Find(dir); err != nil || len(again) > 0 {
		t.Errorf("applied, it is found again: %v, %v", again, err)
	}
	return edits
}

func thread(area uint64, size uint32) *core.CoreEntry {
	c := &core.CoreEntry{Mtype: core.CoreEntry_X86_64.Enum(), ThreadCore: &core.ThreadCoreEntry{FutexRla: proto.Uint64(5), FutexRlaLen: proto.Uint32(24)}}
	if size > 0 {
		c.ThreadCore.RseqEntry = &rseqimage.RseqEntry{RseqAbiPointer: &area, RseqAbiSize: &size, Signature: proto.Uint32(0x53053053)}
	}
	later(c)
	return c
}

// pages is a run of pages as CRIU 4.2 writes it: their number in a field that go-criu does not know.
func pages(at uint64, number uint64, flags uint32) *pagemap.PagemapEntry {
	e := &pagemap.PagemapEntry{Vaddr: &at, NrPages: proto.Uint32(0), Flags: &flags}
	e.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 5, protowire.VarintType), number))
	return e
}

// filled is a file of so many pages, each full of its number.
func filled(t *testing.T, path string, number int) {
	t.Helper()
	var all []byte
	for n := range number {
		all = append(all, bytes.Repeat([]byte{byte(n + 1)}, pageSize)...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

// twoProcesses are the images of process 1 with threads 1 and 2 and of process 9. The area of thread 2 is in a page that only the
// round before has.
func twoProcesses(t *testing.T, size uint32) (dir, before string) {
	t.Helper()
	top := t.TempDir()
	dir, before = filepath.Join(top, "images"), filepath.Join(top, "images.1")
	process := func(pid uint32, threads ...uint32) *pstree.PstreeEntry {
		return &pstree.PstreeEntry{Pid: &pid, Ppid: proto.Uint32(0), Pgid: &pid, Sid: &pid, Threads: threads}
	}
	encode(t, filepath.Join(dir, "pstree.img"), "PSTREE", process(1, 1, 2), process(9, 9))
	encode(t, filepath.Join(dir, "core-1.img"), "CORE", thread(0x12060, size))
	encode(t, filepath.Join(dir, "core-2.img"), "CORE", thread(0x30020, size))
	encode(t, filepath.Join(dir, "core-9.img"), "CORE", thread(0x50000, 0))
	encode(t, filepath.Join(dir, "pagemap-1.img"), "PAGEMAP", &pagemap.PagemapHead{PagesId: proto.Uint32(4)},
		pages(0x8000, 1, present), pages(0x20000, 2, 1<<1), pages(0x10000, 3, present|1<<1), pages(0x30000, 1, inParent))
	filled(t, filepath.Join(dir, "pages-4.img"), 4)
	encode(t, filepath.Join(before, "pagemap-1.img"), "PAGEMAP", &pagemap.PagemapHead{PagesId: proto.Uint32(2)}, pages(0x2f000, 2, present))
	filled(t, filepath.Join(before, "pages-2.img"), 2)
	if err := os.Symlink("../images.1", filepath.Join(dir, "parent")); err != nil {
		t.Fatal(err)
	}
	return dir, before
}

func TestThreadsWithLongerAreasGoOnAsIfTheKernelHadRefusedThem(t *testing.T) {
	dir, before := twoProcesses(t, 33)
	if edits := apply(t, rseq(), dir); len(edits) != 4 {
		t.Errorf("changed %v", edits)
	}
	for n := range 2 {
		want := thread(0, 0)
		if diff := cmp.Diff(want, decode(t, filepath.Join(dir, fmt.Sprintf("core-%d.img", n+1)), &core.CoreEntry{}), protocmp.Transform()); diff != "" {
			t.Errorf("thread %d:\n%s", n+1, diff)
		}
	}
	// The third page of the run at 0x10000 is the fourth in the file, and the second of the earlier round the one at 0x30000.
	for path, at := range map[string]int{filepath.Join(dir, "pages-4.img"): 3*pageSize + 0x60, filepath.Join(before, "pages-2.img"): pageSize + 0x20} {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		area := got[at : at+16]
		if binary.LittleEndian.Uint32(area) != 0 || int32(binary.LittleEndian.Uint32(area[4:])) != -2 || binary.LittleEndian.Uint64(area[8:]) != 0 {
			t.Errorf("%s: the area is % x", path, area)
		}
		filled(t, path, len(got)/pageSize)
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		copy(want[at:], area)
		if !bytes.Equal(want, got) {
			t.Errorf("%s has changed elsewhere too", path)
		}
	}
}

func TestAreasThatEveryKernelTakesStay(t *testing.T) {
	dir, _ := twoProcesses(t, 32)
	if edits := apply(t, rseq(), dir); len(edits) != 0 {
		t.Errorf("changed %v", edits)
	}
}

func TestWhatCannotBeTranslatedIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"in a sequence": {func(t *testing.T, dir string) {
			c := thread(0x12060, 33)
			c.ThreadCore.RseqEntry.RseqCsPointer = proto.Uint64(1)
			encode(t, filepath.Join(dir, "core-1.img"), "CORE", c)
		}, "thread 1 is in a restartable sequence"},
		"no page": {func(t *testing.T, dir string) {
			encode(t, filepath.Join(dir, "core-1.img"), "CORE", thread(0x90000, 33))
		}, "area of thread 1: address 0x90000 is in none of the images"},
		"a page that only post-copy brings": {func(t *testing.T, dir string) {
			encode(t, filepath.Join(dir, "core-1.img"), "CORE", thread(0x20000, 33))
		}, "address 0x20000 is in none of the images"},
		"over the end of a page": {func(t *testing.T, dir string) {
			encode(t, filepath.Join(dir, "core-1.img"), "CORE", thread(0x12ff8, 33))
		}, "more than one page"},
		"the earlier round is lost": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "parent")); err != nil {
				t.Fatal(err)
			}
		}, "the images of an earlier round are not there"},
		"an image that was cut": {func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "core-2.img"), 14); err != nil {
				t.Fatal(err)
			}
		}, "core-2.img is not whole"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := twoProcesses(t, 33)
			c.damage(t, dir)
			if edits, err := rseq().Find(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "rule rseq: ") {
				t.Errorf("%v, %v; want %q", edits, err, c.want)
			}
		})
	}
}
