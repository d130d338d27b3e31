package pods

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

// oldPod is what testdata/layout1 says, as an earlier agent wrote it.
func oldPod() *Record {
	return &Record{
		Spec: &drydockv1.PodSpec{
			Name: "db", Hostname: "db", Containers: []*drydockv1.Container{{Name: "main", Image: "redis:7"}},
		},
		Epoch: 7, Born: 2, Role: Incoming, Migration: "m1", Restarts: map[string]int32{"main": 3}, Ended: true,
	}
}

func recordsIn(dir string) *Runtime { return &Runtime{cfg: Config{DataDir: dir}} }

func TestARecordOfAnEarlierAgentIsReadWithTheSameMeaning(t *testing.T) {
	got, err := recordsIn("testdata/layout1").Record("db")
	if diff := cmp.Diff(oldPod(), got, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestARecordIsReadAsItWasSaved(t *testing.T) {
	r := recordsIn(t.TempDir())
	if _, err := r.Record("db"); !errors.Is(err, ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	for range 2 {
		if err := r.Save(oldPod()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.Record("db")
	if diff := cmp.Diff(oldPod(), got, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if names, err := r.Names(); err != nil || len(names) != 1 || names[0] != "db" {
		t.Errorf("names: %v, %v", names, err)
	}
	if files, err := os.ReadDir(r.podDir("db")); err != nil || len(files) != 1 {
		t.Errorf("files left: %v, %v", files, err)
	}
}

func TestARecordOfANewerAgentIsReadWhereItsLayoutIsTheSameAndElseRefused(t *testing.T) {
	old, err := os.ReadFile("testdata/layout1/pods/db/pod.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, to, refusal string }{
		{"a field more", `"epoch":7`, `"epoch":7,"addedLater":{"a":1}`, ""},
		{"a field more in the specification", `"hostname":"db"`, `"hostname":"db","addedLater":[1]`, ""},
		{"a newer layout", `"version":1`, `"version":2`, "version 2, this agent reads 1"},
		{"no layout", `"version":1,`, ``, "version 0, this agent reads 1"},
		{"cut", `"ended":true}`, ``, "pod db"},
	} {
		r := recordsIn(t.TempDir())
		if err := os.MkdirAll(r.podDir("db"), 0o700); err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(old), c.from, c.to, 1)
		if err := os.WriteFile(filepath.Join(r.podDir("db"), "pod.json"), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := r.Record("db")
		if c.refusal == "" && err != nil || c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
