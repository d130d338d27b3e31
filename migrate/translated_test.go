package migrate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"google.golang.org/protobuf/proto"
)

// onKernel is an engine on a host with that kernel, and the directory of a container's images in migration m-1.
func onKernel(t *testing.T, kernel string) (e *Engine, images string) {
	t.Helper()
	e = New(Config{
		DataDir: t.TempDir(), RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Inspect: func(context.Context) (*drydockv1.HostInfo, error) { return &drydockv1.HostInfo{Kernel: kernel}, nil },
	})
	images = e.restoreFrom("m-1", "main").Images
	if err := os.MkdirAll(images, 0o700); err != nil {
		t.Fatal(err)
	}
	return e, images
}

// arrivedImages writes an image with a droppable mapping and one of another kind, and keeps their sums as the source would send them.
func arrivedImages(t *testing.T, e *Engine, images string) (mapping string) {
	t.Helper()
	zero := func() *uint64 { return proto.Uint64(0) }
	entry, err := proto.Marshal(&mm.MmEntry{
		MmStartCode: zero(), MmEndCode: zero(), MmStartData: zero(), MmEndData: zero(), MmStartStack: zero(), MmStartBrk: zero(), MmBrk: zero(),
		MmArgStart: zero(), MmArgEnd: zero(), MmEnvStart: zero(), MmEnvEnd: zero(), ExeFileId: proto.Uint32(1),
		Vmas: []*vma.VmaEntry{{
			Start: proto.Uint64(4096), End: proto.Uint64(8192), Pgoff: zero(), Shmid: zero(), Prot: proto.Uint32(3), Flags: proto.Uint32(0x4028),
			Status: proto.Uint32(1), Fd: proto.Int64(-1),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]*drydockv1.ImageSums{}
	for name, data := range map[string][]byte{
		"mm-1.img": append(binary.LittleEndian.AppendUint32([]byte("12345678"), uint32(len(entry))), entry...), "fs-1.img": []byte("another"),
	} {
		if err := os.WriteFile(filepath.Join(images, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		sums["main/"+name] = &drydockv1.ImageSums{Crc32C: []uint32{crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))}}
	}
	if err := e.keepSums(&drydockv1.ReceiveRestoreRequest{Migration: "m-1", Sums: sums}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(images, "mm-1.img")
}

var oneContainer = &drydockv1.PodSpec{Name: "p", Containers: []*drydockv1.Container{{Name: "main"}}}

func TestImagesOfANewerKernelAreTranslatedAndStillCompared(t *testing.T) {
	e, images := onKernel(t, "6.1.0-40-amd64")
	mapping := arrivedImages(t, e, images)
	if err := e.noteRules(t.Context(), "m-1", "6.12.94-amd64"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(mapping)
	if err != nil {
		t.Fatal(err)
	}
	j := owner.Journal{Pod: "p", Migration: "m-1"}
	// An agent that comes after this one verifies and translates again.
	for range 2 {
		if err := e.verifyImages(t.Context(), "m-1"); err != nil {
			t.Fatal(err)
		}
		if err := e.translate(j, oneContainer); err != nil {
			t.Fatal(err)
		}
	}
	after, err := os.ReadFile(mapping)
	if err != nil || bytes.Equal(before, after) {
		t.Errorf("nothing was translated: %v", err)
	}
	if err := os.WriteFile(filepath.Join(images, "fs-1.img"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.verifyImages(t.Context(), "m-1"); !errors.Is(err, transfer.ErrDamaged) {
		t.Errorf("an image that no rule has changed is not compared any more: %v", err)
	}
}

func TestARuleThatThePairOfKernelsDoesNotNeedIsNeverAsked(t *testing.T) {
	e, images := onKernel(t, "6.12.90-amd64")
	mapping := arrivedImages(t, e, images)
	if err := e.noteRules(t.Context(), "m-1", "6.12.94-amd64"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e.dir("m-1"), rulesMark)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rules are noted: %v", err)
	}
	before, err := os.ReadFile(mapping)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.translate(owner.Journal{Pod: "p", Migration: "m-1"}, oneContainer); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(mapping); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the image was changed: %v", err)
	}
	if err := e.verifyImages(t.Context(), "m-1"); err != nil {
		t.Error(err)
	}
}

func TestPostCopyIsRefusedWhereMemoryIsChangedOnTheWay(t *testing.T) {
	for _, c := range []struct {
		from, to string
		refused  bool
	}{{"6.12.94", "6.12.90", false}, {"7.2.1", "6.12.94", false}, {"6.12.94", "6.1.0", true}, {"6.1.0", "6.12.94", false}} {
		if why := rewrites(c.from, c.to); (why != "") != c.refused {
			t.Errorf("%s to %s: %q", c.from, c.to, why)
		}
	}
}
