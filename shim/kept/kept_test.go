package kept

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/shim/message"
	"drydock/shim/rules"
)

var _ rules.Keeper = (*Pair)(nil)

func TestWhatIsKeptIsThereForAnotherProcessAndGoneWhenForgotten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	value, err := message.ParseJSON([]byte(`{"b": 92233720368547758.07, "a": "x"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"7", "", "../../etc", strings.Repeat("long", 1000), "Ä/\x00"} {
		if err := first.Pair("v1-v2").Keep("order.note", key, value); err != nil {
			t.Fatal(err)
		}
		got, err := second.Pair("v1-v2").Kept("order.note", key)
		if err != nil || got == nil || got.String() != `{"b":92233720368547758.07,"a":"x"}` {
			t.Errorf("%q: %v, %v", key, got, err)
		}
		if got, err := second.Pair("v2-v3").Kept("order.note", key); got != nil || err != nil {
			t.Errorf("another pair has %v, %v", got, err)
		}
		for range 2 {
			if err := second.Pair("v1-v2").Keep("order.note", key, nil); err != nil {
				t.Error(err)
			}
		}
		if got, err := first.Pair("v1-v2").Kept("order.note", key); got != nil || err != nil {
			t.Errorf("%q is kept still: %v, %v", key, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "..", "etc")); err == nil {
		t.Error("a key led out of the directory")
	}
}

func TestAFileThatIsBrokenIsAnErrorAndNotNothing(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := s.Pair("v1-v2")
	if err := p.Keep("note", "7", message.NewString("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path("note", "7"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Kept("note", "7"); err == nil {
		t.Error("it was read")
	}
}

func TestADirectoryThatCannotBeWrittenIsRefusedAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil {
		t.Error("it was taken")
	}
}
