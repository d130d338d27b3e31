package schema_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"drydock/shim/message"
	"drydock/shim/schema"
	"drydock/shim/schema/schematest"
)

const orders = `
syntax = "proto3";
package shop.v1;
enum State { OPEN = 0; CLOSED = 1; }
message Line { string sku = 1; double price = 2; }
message Order {
  int64 id = 1; State state = 2; repeated Line lines = 3; map<string, Line> by_name = 4; optional string note = 5; bytes mark = 6;
}
message None {}
service Orders { rpc Put(Order) returns (None); rpc Watch(None) returns (stream Order); }
`

func parse(t testing.TB) *schema.Schema {
	t.Helper()
	s, err := schema.Parse(schematest.Set(t, orders))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB) message.Codec {
	t.Helper()
	m, ok := parse(t).Method(message.Path{"shop.v1.Orders", "Put"})
	if !ok {
		t.Fatal("the method is not there")
	}
	return m.Request
}

func TestMessagesComeThroughWithEveryDigit(t *testing.T) {
	const text = `{"id":"9223372036854775807","state":"CLOSED","lines":[{"sku":"a","price":0.1}],"by_name":{"x":{"sku":"b","price":0}},"note":"","mark":"AP8="}`
	v, err := message.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	wire, err := put(t).Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	back, err := put(t).Decode(wire)
	if err != nil {
		t.Fatal(err)
	}
	if d := message.Difference(back, v); d != "" {
		t.Errorf("%s became %s: %s", v, back, d)
	}
	again, err := put(t).Encode(back)
	if err != nil || string(again) != string(wire) {
		t.Errorf("%x became %x, %v", wire, again, err)
	}
}

func TestZerosAreThereForRulesToSee(t *testing.T) {
	v, err := put(t).Decode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"id":"0","state":"OPEN","lines":[],"by_name":{},"mark":""}`, v.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWouldBeLostIsRefused(t *testing.T) {
	unknown := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "new")
	inLine := protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), unknown)
	for name, wire := range map[string][]byte{"a field": unknown, "a field below": inLine, "half a message": {0x0a}} {
		if v, err := put(t).Decode(wire); err == nil {
			t.Errorf("%s became %s", name, v)
		}
	}
	for _, text := range []string{`{"other":1}`, `{"state":"LOST"}`, `{"id":1.5}`, `[]`} {
		v, err := message.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if wire, err := put(t).Encode(v); err == nil {
			t.Errorf("%s became %x", text, wire)
		}
	}
}

func TestADescriptorSetNeedsServices(t *testing.T) {
	for name, data := range map[string][]byte{
		"no descriptor set": []byte("hello"), "no service": schematest.Set(t, `syntax = "proto3"; message A {}`), "nothing": nil,
	} {
		if _, err := schema.Parse(data); err == nil || !strings.Contains(err.Error(), "descriptor set") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := parse(t).Method(message.Path{"shop.v1.Orders", "None"}); ok {
		t.Error("a method is there that is not")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x08\x01\x10\x01\x1a\x03\x0a\x01a"))
	c := put(f)
	f.Fuzz(func(t *testing.T, wire []byte) {
		v, err := c.Decode(wire)
		if err != nil {
			return
		}
		again, err := c.Encode(v)
		if err != nil {
			t.Fatalf("%x became %s, which cannot be written: %v", wire, v, err)
		}
		back, err := c.Decode(again)
		if err != nil || message.Difference(back, v) != "" {
			t.Fatalf("%s became %s, %v", v, back, err)
		}
	})
}
