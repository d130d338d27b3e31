package owner

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What layout 1 looks like is kept in testdata/layout1, as an earlier program wrote it. It is written by
// `go test ./migrate/owner -run Record -record` and never again once a later layout exists.
var recordLayout = flag.Bool("record", false, "record the present layout of what is stored")

var (
	oldRecord = Record{
		Version: 1, Pod: "db", Epoch: 7, Born: 2, Incarnation: 3, State: Moving, Owner: Place{"h1", "boot-1"}, Settled: true,
		Migration: "m1", Outcome: HandedBack, Source: Place{"h1", "boot-1"}, Destination: Place{"h2", "boot-2"}, PostCopy: true,
		Leader: 42, Reason: "moves to h2",
	}
	oldJournal = Journal{
		Version: 1, Pod: "db", Side: Destination, Stage: Committed, Incarnation: 3, BootID: "boot-2", Migration: "m1", Epoch: 7,
		Peer: Place{"h1", "boot-1"}, PeerAddress: "10.0.0.1:7444", PostCopy: true, Attempts: 2, Ran: true, Unshared: true,
	}
	oldFence = fenceFile{Version: 1, Leader: 42, Epochs: map[string]uint64{"db": 7}}
)

const layout1 = "testdata/layout1"

func TestRecordThePresentLayout(t *testing.T) {
	for _, v := range []any{oldRecord, oldJournal, oldFence} {
		for i := range reflect.ValueOf(v).NumField() {
			if f := reflect.TypeOf(v).Field(i); f.Name != "Revision" && reflect.ValueOf(v).Field(i).IsZero() {
				t.Errorf("%T: %s is not recorded", v, f.Name)
			}
		}
	}
	if !*recordLayout {
		return
	}
	encoded, err := oldRecord.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(layout1, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(layout1+"/record.json", encoded, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := oldJournal.Save(layout1 + "/journal.json"); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(layout1+"/fence.json", oldFence); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAnEarlierProgramStoredIsReadWithTheSameMeaning(t *testing.T) {
	encoded := read(t, "record.json")
	record, err := Decode(encoded, 9)
	want := oldRecord
	want.Revision = 9
	if diff := cmp.Diff(want, record); diff != "" || err != nil {
		t.Errorf("record: %v (-want +got):\n%s", err, diff)
	}
	journal, err := LoadJournal(layout1 + "/journal.json")
	if diff := cmp.Diff(oldJournal, journal); diff != "" || err != nil {
		t.Errorf("journal: %v (-want +got):\n%s", err, diff)
	}
	fence, err := OpenFence(layout1 + "/fence.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(oldFence, fence.seen); diff != "" {
		t.Errorf("fence (-want +got):\n%s", diff)
	}
	again, err := record.Encode()
	if err != nil || !sameJSON(t, encoded, again) {
		t.Errorf("an earlier program would read something else: %s, %v", again, err)
	}
}

func TestANewerLayoutIsRefusedAndBothVersionsAreNamed(t *testing.T) {
	for name, open := range openers(t) {
		t.Run(name, func(t *testing.T) {
			err := open(edit(t, name, "version", 2))
			if err == nil || !strings.Contains(err.Error(), "layout 2") || !strings.Contains(err.Error(), "up to 1") || !strings.Contains(err.Error(), "upgrade") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFieldsThatANewerProgramAddedToTheSameLayoutDoNotDisturb(t *testing.T) {
	for name, open := range openers(t) {
		if err := open(edit(t, name, "added_later", map[string]any{"version": 9})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFileThatSaysNoLayoutIsNotTakenForAnEmptyOne(t *testing.T) {
	for name, open := range openers(t) {
		for _, content := range []string{"{}", "null", "", `{"version":0}`, `{"version":-1}`, `{"version":1`} {
			if err := open([]byte(content)); err == nil {
				t.Errorf("%s: %q was read", name, content)
			}
		}
	}
}

// openers read each kind of file.
func openers(t *testing.T) map[string]func([]byte) error {
	file := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "file.json")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return map[string]func([]byte) error{
		"record.json":  func(b []byte) error { _, err := Decode(b, 1); return err },
		"journal.json": func(b []byte) error { _, err := LoadJournal(file(b)); return err },
		"fence.json":   func(b []byte) error { _, err := OpenFence(file(b)); return err },
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(layout1, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// edit is a recorded file with one key set to another value.
func edit(t *testing.T, name, key string, value any) []byte {
	t.Helper()
	var all map[string]any
	decoder := json.NewDecoder(bytes.NewReader(read(t, name)))
	decoder.UseNumber()
	if err := decoder.Decode(&all); err != nil {
		t.Fatal(err)
	}
	all[key] = value
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}
