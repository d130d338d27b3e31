package resp

import (
	"errors"
	"testing"
)

func TestWhatIsNoValueIsRefusedAndWhatIsNotWholeIsWaitedFor(t *testing.T) {
	for text, more := range map[string]bool{
		"$3\r\nab": true, "*2\r\n:1\r\n": true, "+OK": true, "": true, "%1\r\n+a\r\n": true,
		"?x\r\n": false, "$x\r\n": false, "$-2\r\n": false, "$1\r\nab\r\n": false, "*99999999\r\n": false, "$99999999\r\n": false,
	} {
		if _, err := Parse([]byte(text)); err == nil || errors.Is(err, ErrMore) != more {
			t.Errorf("%q: %v", text, err)
		}
	}
	deep := ""
	for range 100 {
		deep += "*1\r\n"
	}
	if _, err := Parse([]byte(deep + ":1\r\n")); err == nil || errors.Is(err, ErrMore) {
		t.Errorf("nested: %v", err)
	}
}

// What was parsed is what came, and nothing is read that is not there.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"*2\r\n$1\r\na\r\n:5\r\n", "%1\r\n+a\r\n_\r\n", "$-1\r\n", "PING\r\n", "=5\r\ntxt:x\r\n", "*-1\r\n", ">1\r\n#t\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) (Value, error){Parse, ParseCommand} {
			v, err := parse(data)
			if err != nil {
				continue
			}
			if len(v.Raw) == 0 || len(v.Raw) > len(data) || string(data[:len(v.Raw)]) != string(v.Raw) {
				t.Errorf("%q was read from %q", v.Raw, data)
			}
			if again, err := parse(v.Raw); err != nil || len(again.Items) != len(v.Items) {
				t.Errorf("%q alone: %v", v.Raw, err)
			}
			if _, err := parse(v.Raw[:len(v.Raw)-1]); err == nil {
				t.Errorf("%q without its last byte is a value", v.Raw)
			}
		}
	})
}
