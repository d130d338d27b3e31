package filesync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testdata/stream1 is a pass as version 1 of the wire format sends it; `go test -run Recorded -record` writes it.
var recordStream = flag.Bool("record", false, "record a pass of the present wire format")

func TestARecordedPassIsAppliedWithTheSameMeaning(t *testing.T) {
	path := filepath.Join("testdata", "stream1")
	if *recordStream {
		from := t.TempDir()
		if err := errors.Join(os.WriteFile(filepath.Join(from, "file"), []byte("content"), 0o640), os.Symlink("file", filepath.Join(from, "link"))); err != nil {
			t.Fatal(err)
		}
		source, err := NewSource(from)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		var out bytes.Buffer
		if _, err := source.Pass(t.Context(), &out, PassOptions{Final: true}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, out.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	apply := func(stream []byte) error {
		target, err := NewTarget(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		_, err = target.Apply(t.Context(), bytes.NewReader(stream))
		return err
	}
	newer := bytes.Clone(stream)
	binary.BigEndian.PutUint16(newer[len(magic):], Version+1)
	if err := apply(newer); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("a newer version: %v", err)
	}
	if err := apply(stream); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "link"))
	if err != nil || string(content) != "content" {
		t.Errorf("got %q, %v", content, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "file")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode: %v, %v", info, err)
	}
}
