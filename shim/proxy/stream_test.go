package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"drydock/shim/message"
)

func frame(text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(text))), text...)
}

func translated(in io.Reader, change func(context.Context, *message.Value) error) ([]byte, error) {
	return io.ReadAll(&frames{
		from: io.NopCloser(in), most: 100, translate: through(context.Background(), message.JSON{}, message.JSON{}, change),
		failed: func(err error) error { return err },
	})
}

func nothing(context.Context, *message.Value) error { return nil }

func TestFramesAreTranslatedWhereverTheyAreCut(t *testing.T) {
	in := append(append(frame(`{ "a" : 1 }`), frame(`[]`)...), frame(`"x"`)...)
	want := append(append(frame(`{"a":1}`), frame(`[]`)...), frame(`"x"`)...)
	for name, reader := range map[string]io.Reader{"whole": bytes.NewReader(in), "byte by byte": iotest.OneByteReader(bytes.NewReader(in))} {
		if got, err := translated(reader, nothing); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestFramesThatAreWrongEndTheStream(t *testing.T) {
	good := frame(`{"a":1}`)
	for _, test := range []struct {
		name string
		bad  []byte
		why  message.Why
	}{
		{"a compressed message", []byte{1, 0, 0, 0, 0}, message.Untranslatable},
		{"a message that is too large", []byte{0, 255, 255, 255, 255}, message.TooLarge},
		{"a message that is none", frame(`{"a":`), message.Untranslatable},
		{"half a message", frame(`{"a":1}`)[:8], ""},
		{"half a head", []byte{0, 0}, ""},
	} {
		got, err := translated(bytes.NewReader(append(bytes.Clone(good), test.bad...)), nothing)
		var refusal *message.Refusal
		if !bytes.Equal(got, good) || errors.As(err, &refusal) != (test.why != "") || refusal != nil && refusal.Why != test.why {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
		if refusal == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestAFaultInATranslatorEndsItsCallOnly(t *testing.T) {
	c := &call{}
	operator(func(*call) error { panic("a fault") }).Process(c)
	var refusal *message.Refusal
	if !errors.As(c.err, &refusal) {
		t.Errorf("the call ended with %v", c.err)
	}
	if _, err := translated(bytes.NewReader(frame(`1`)), func(context.Context, *message.Value) error { panic("a fault") }); !errors.As(err, &refusal) {
		t.Errorf("the stream ended with %v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(append(frame(`{"a":[1,2]}`), frame(`null`)...))
	f.Add([]byte{0, 0, 0, 0, 200, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _ := translated(bytes.NewReader(data), nothing)
		again, err := translated(bytes.NewReader(got), nothing)
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("%q became %q and then %q, %v", data, got, again, err)
		}
	})
}
