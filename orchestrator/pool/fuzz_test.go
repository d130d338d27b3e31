package pool

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func FuzzAnyFileIsTakenOrItsFaultsHavePlaces(f *testing.F) {
	files, err := filepath.Glob("../../configs/pools/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	for _, text := range []string{
		"", "---\n", "---\n---\n", "null", "[]", "a", "&a [*a]", "? {a: b}\n: c", "*x: 1", "name: [", "\t", "gates: [{cel: |\n}]", "gates: [{name: g, cel: |1\n  x}]",
		"name: web\nhosts: &h {names: *h}", "windows: [[]]", "hosts: {labels: {a: {b: c}}}", "hosts: {names: [~, 1, true]}", "gates:\n- cel: |\n", "\xff", "name: \"\\x00\"",
		"<<: {name: a}", "name: !!binary aGk=", "at-once: {hosts: 99999999999999999999}", "soak: {host: 9999999999h}", "min-period: 99999d",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p.yaml", []byte(text))
		var faults Faults
		switch {
		case err == nil && (p == nil || p.Name == "" || len(p.Hosts.Names)+len(p.Hosts.Labels) == 0):
			t.Errorf("taken without a name or hosts: %+v", p)
		case err != nil && (!errors.As(err, &faults) || p != nil):
			t.Errorf("%v", err)
		}
		for _, fault := range faults {
			if fault.Message == "" || fault.Remedy == "" || fault.Line < 0 || fault.Column < 0 {
				t.Errorf("%+v", fault)
			}
		}
	})
}
