package message

import (
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func parse(t *testing.T, text string) *Value {
	t.Helper()
	v, err := ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestReadingAndWritingKeepsDigitsAndOrder(t *testing.T) {
	for _, text := range []string{
		`{"z":12345678901234567890123,"a":1.10,"m":[1e400,-0,true,false,null],"":{}}`,
		`[]`, `"<&>\n\u2028 é"`, `{"a":{"b":[{"c":[]}]}}`, `0.1000000000000000055511151231257827`,
	} {
		if got := parse(t, text).String(); got != text && parse(t, got).String() != got {
			t.Errorf("%s became %s", text, got)
		}
	}
	const numbers = `{"z":12345678901234567890123,"a":1.10,"m":[1e400,-0,true,false,null],"":{}}`
	if diff := cmp.Diff(numbers, parse(t, numbers).String()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatProgramsCouldReadDifferentlyIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a name that is there twice": `{"a":1,"a":2}`, "two values": `1 2`, "nothing": ``, "half a value": `{"a":`, "a comma too many": `[1,]`,
		"invalid UTF-8": "\"\xff\"", "no number": `01`, "deep nesting": strings.Repeat("[", 501) + strings.Repeat("]", 501),
	} {
		if v, err := ParseJSON([]byte(text)); err == nil {
			t.Errorf("%s was taken as %s", name, v)
		}
	}
}

func TestMembersKeepTheirPlace(t *testing.T) {
	v := parse(t, `{"a":1,"b":2,"c":3}`)
	v.Rename("b", "x")
	v.Set("a", NewString("new"))
	v.Set("d", NewNull())
	if got := v.Remove("c"); got.Text() != "3" {
		t.Errorf("removed %s", got)
	}
	if diff := cmp.Diff(`{"a":"new","x":2,"d":null}`, v.String()); diff != "" {
		t.Error(diff)
	}
	if v.Remove("c") != nil || v.Get("c") != nil {
		t.Error("c is still there")
	}
}

func TestACloneSharesNothing(t *testing.T) {
	v := parse(t, `{"a":[1,{"b":2}]}`)
	before := v.String()
	c := v.Clone()
	c.Get("a").Items()[1].Set("b", NewNull())
	c.Get("a").Items()[0].Become(NewBool(true))
	if v.String() != before {
		t.Errorf("the original became %s", v)
	}
}

func TestNumbersAreExact(t *testing.T) {
	for digits, want := range map[string]string{"12.50": "12.5", "1e2": "100", "-0.001": "-0.001", "12345678901234567890.5": "12345678901234567890.5"} {
		n, ok := NewNumber(digits)
		if !ok {
			t.Fatalf("%s is a number", digits)
		}
		r, ok := n.Rational()
		if !ok {
			t.Fatalf("%s has a value", digits)
		}
		if back, ok := NewRational(r); !ok || back.Text() != want {
			t.Errorf("%s became %s, expected %s", digits, back, want)
		}
	}
	if v, ok := NewRational(big.NewRat(1, 3)); ok {
		t.Errorf("a third became %s", v)
	}
	huge := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(400), nil))
	if v, ok := NewRational(huge); ok {
		t.Errorf("10^400 became %s, which cannot be read again", v)
	}
}

func TestAbsurdNumbersAreNotCalculatedWith(t *testing.T) {
	for _, digits := range []string{"1e999999999", "1e-999999999", "1e99999999999999999999", strings.Repeat("9", 401), "abc", "1/3", "0x10", "1_0", "Inf"} {
		if r, ok := ParseRational(digits); ok {
			t.Errorf("%.20s became a number with %d bits", digits, r.Num().BitLen())
		}
	}
}

func TestValuesComeThroughGojqsTypesUnchanged(t *testing.T) {
	const text = `{"z":12345678901234567890123,"a":[{"y":1.10,"b":null},true],"m":"x"}`
	v := parse(t, text)
	back, err := FromAny(v.Any(), v)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, back.String()); diff != "" {
		t.Error(diff)
	}
	sorted, err := FromAny(map[string]any{"new": 1, "z": 2.5, "a": []any{}}, v)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"z":2.5,"a":[],"new":1}`, sorted.String()); diff != "" {
		t.Error(diff)
	}
}

func TestDifferencesAreNamed(t *testing.T) {
	for _, test := range []struct{ got, want, difference string }{
		{`{"a":1,"b":2}`, `{"b":2.0,"a":1}`, ""},
		{`{"a":{"b":1}}`, `{"a":{"b":2}}`, "a.b is 1, expected 2"},
		{`{"a":[1]}`, `{"a":[1,2]}`, "a has 1 items, expected 2"},
		{`{"a":1}`, `{}`, "a is 1, expected none"},
		{`{}`, `{"a":1}`, "a is missing, expected 1"},
		{`[{"a":"1"}]`, `[{"a":1}]`, `[0].a is "1", expected 1`},
		{`12345678901234567890123`, `12345678901234567890124`, "the body is 12345678901234567890123, expected 12345678901234567890124"},
	} {
		if got := Difference(parse(t, test.got), parse(t, test.want)); got != test.difference {
			t.Errorf("%s and %s: %s", test.got, test.want, cmp.Diff(test.difference, got))
		}
	}
}

func TestYAMLKeepsDigitsAndOrder(t *testing.T) {
	var node yaml.Node
	if err := yaml.Unmarshal([]byte("z: 12345678901234567890123\na: [1.10, yes, \"3\", true, null]\n"), &node); err != nil {
		t.Fatal(err)
	}
	v, err := FromYAML(node.Content[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"z":12345678901234567890123,"a":[1.10,"yes","3",true,null]}`, v.String()); diff != "" {
		t.Error(diff)
	}
}

func TestABodyThatNobodyLooksIntoStaysAsItIs(t *testing.T) {
	raw := `{ "a" : 1.0 }`
	b := NewBody([]byte(raw), JSON{})
	if data, err := b.Bytes(); err != nil || string(data) != raw {
		t.Errorf("it became %s, %v", data, err)
	}
	if _, err := b.Value(); err != nil {
		t.Fatal(err)
	}
	if data, err := b.Bytes(); err != nil || string(data) != `{"a":1.0}` {
		t.Errorf("after a look it became %s, %v", data, err)
	}
	closed := NewBody([]byte("binary"), nil)
	if _, err := closed.Value(); err == nil {
		t.Error("a body without codec was read")
	}
}

func TestABodyThatHasNotComeIsReadOnce(t *testing.T) {
	reads := 0
	b := LazyBody(func() ([]byte, error) {
		reads++
		return []byte(`[1]`), nil
	}, JSON{})
	if !b.Untouched() {
		t.Error("it was touched")
	}
	for range 2 {
		if v, err := b.Value(); err != nil || v.String() != "[1]" {
			t.Errorf("%s, %v", v, err)
		}
	}
	if data, err := b.Bytes(); err != nil || string(data) != "[1]" || reads != 1 || b.Untouched() {
		t.Errorf("%s after %d reads, %v", data, reads, err)
	}
	fails := LazyBody(func() ([]byte, error) { return nil, errors.New("cut off") }, JSON{})
	if _, err := fails.Value(); err == nil {
		t.Error("a body that was cut off was read")
	}
}

func TestASlashInAnIdentifierDoesNotPartAPath(t *testing.T) {
	p, err := ParsePath("/orders/a%2Fb%20c/items")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Path{"orders", "a/b c", "items"}, p); diff != "" {
		t.Error(diff)
	}
	if got := p.String(); got != "/orders/a%2Fb%20c/items" {
		t.Errorf("it became %s", got)
	}
	for _, bad := range []string{"", "orders", "/%zz"} {
		if p, err := ParsePath(bad); err == nil {
			t.Errorf("%q became %q", bad, p)
		}
	}
}

func TestARefusalIsTypedInEveryProtocol(t *testing.T) {
	for _, test := range []struct {
		refusal Refusal
		status  int
		code    uint32
	}{
		{Refusal{Why: Disallowed, Detail: "d"}, http.StatusNotImplemented, 12},
		{Refusal{Why: Untranslatable, Detail: "d"}, http.StatusUnprocessableEntity, 3},
		{Refusal{Why: TooLarge, Detail: "d"}, http.StatusRequestEntityTooLarge, 8},
		{Refusal{Why: Untranslatable, Detail: "d", Answered: true}, http.StatusBadGateway, 13},
	} {
		if got := test.refusal.Status(); got != test.status {
			t.Errorf("%+v has status %d", test.refusal, got)
		}
		if code, text := test.refusal.GRPC(); code != test.code || !strings.Contains(text, "d") {
			t.Errorf("%+v has code %d, %q", test.refusal, code, text)
		}
		var problem struct {
			Type   string
			Status int
		}
		if err := json.Unmarshal(test.refusal.Problem(), &problem); err != nil {
			t.Fatal(err)
		}
		if problem.Status != test.status || problem.Type != "urn:drydock:shim:"+string(test.refusal.Why) {
			t.Errorf("%+v is the problem %+v", test.refusal, problem)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.50,"x\ud83d\ude00",null]}`, `1e400`, `{"a":1,"a":2}`, `[[[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseJSON(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("took %q, which is no JSON", data)
		}
		written := v.AppendJSON(nil)
		again, err := ParseJSON(written)
		if err != nil {
			t.Fatalf("%q was written as %q: %v", data, written, err)
		}
		if d := Difference(again, v); d != "" || again.String() != string(written) {
			t.Fatalf("%q was written as %q: %s", data, written, d)
		}
		back, err := FromAny(v.Any(), v)
		if err != nil || back.String() != string(written) {
			t.Fatalf("%q came through as %s, %v", written, back, err)
		}
	})
}
