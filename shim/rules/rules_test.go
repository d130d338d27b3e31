package rules

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drydock/internal/strictyaml"
	"drydock/shim/message"
)

func compile(t testing.TB, text string) *Translator {
	t.Helper()
	translator, problems := tryCompile(t, text)
	if len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	return translator
}

func tryCompile(t testing.TB, text string) (*Translator, []Problem) {
	t.Helper()
	var file struct {
		Spec       Spec        `yaml:"spec"`
		Disallowed []Forbidden `yaml:"disallowed"`
	}
	if _, err := strictyaml.Decode("rules.yaml", []byte(text), &file); err != nil {
		t.Fatal(err)
	}
	return Compile(file.Spec, file.Disallowed)
}

// call is METHOD PATH, with a body of JSON.
func call(t testing.TB, target, body string) *message.Request {
	t.Helper()
	method, rest, _ := strings.Cut(target, " ")
	u, err := url.Parse(rest)
	if err != nil {
		t.Fatal(err)
	}
	path, err := message.ParsePath(u.EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	return &message.Request{
		Method: method, Path: path, Query: u.Query(), Header: http.Header{"X-Kind": {"plain"}},
		Body: message.NewBody([]byte(body), message.JSON{}),
	}
}

func show(t testing.TB, r *message.Request) string {
	t.Helper()
	data, err := r.Body.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	query := ""
	if len(r.Query) > 0 {
		query = "?" + r.Query.Encode()
	}
	return r.Method + " " + r.Path.String() + query + " " + string(data)
}

// rule is a spec with one rule for everything, making these changes to requests.
func changes(ops string) string {
	return "spec:\n  otherwise: refuse\n  rules:\n    - name: all\n      match: {path: '/{rest...}'}\n      request:\n" + ops
}

func TestEveryChangeIsMadeOrRefused(t *testing.T) {
	for _, test := range []struct{ name, op, body, want string }{
		{"rename keeps the place", `{rename: {from: b, to: x}}`, `{"a":1,"b":2,"c":3}`, `{"a":1,"x":2,"c":3}`},
		{"rename deep", `{rename: {from: a.b, to: x}}`, `{"a":{"b":2}}`, `{"a":{"x":2}}`},
		{"rename of what is absent", `{rename: {from: z, to: x}}`, `{"a":1}`, `{"a":1}`},
		{"rename onto a name that is taken", `{rename: {from: a, to: b}}`, `{"a":1,"b":2}`, "refused: all: rename a: b is there already"},
		{"rename in a list", `{in: "items[]", rename: {from: a, to: x}}`, `{"items":[{"a":1},{"b":2},{"a":3}]}`, `{"items":[{"x":1},{"b":2},{"x":3}]}`},
		{"rename in a body that is a list", `{in: "[]", rename: {from: a, to: x}}`, `[{"a":1}]`, `[{"x":1}]`},
		{"rename in what is no list", `{in: "items[]", rename: {from: a, to: x}}`, `{"items":{}}`, "refused: all: rename a: items[] is an object, not a list"},
		{"move into a new object", `{move: {from: street, to: address.street}}`, `{"street":"x"}`, `{"address":{"street":"x"}}`},
		{"move out of an object", `{move: {from: address.street, to: street}}`, `{"address":{"street":"x","n":1}}`, `{"address":{"n":1},"street":"x"}`},
		{"move the last field out of an object", `{move: {from: a.b.c, to: c}}`, `{"a":{"b":{"c":1}}}`, `{"c":1}`},
		{"drop the last field of an object", `{drop: {field: a.b}}`, `{"a":{"b":1}}`, `{"a":{}}`},
		{"move into what is no object", `{move: {from: a, to: b.c}}`, `{"a":1,"b":2}`, "refused: all: move a: b is a number, and has no field c"},
		{"wrap", `{move: {from: ., to: data.items}}`, `[1]`, `{"data":{"items":[1]}}`},
		{"unwrap", `{move: {from: data, to: .}}`, `{"data":[1]}`, `[1]`},
		{"default where absent", `{default: {field: a.b, value: {c: 1.50}}}`, `{}`, `{"a":{"b":{"c":1.50}}}`},
		{"default where null is given", `{default: {field: a, value: 1}}`, `{"a":null}`, `{"a":null}`},
		{"drop", `{drop: {field: a.b}}`, `{"a":{"b":1,"c":2}}`, `{"a":{"c":2}}`},
		{"convert to text keeps digits", `{convert: {field: a, to: string}}`, `{"a":12345678901234567890.10}`, `{"a":"12345678901234567890.10"}`},
		{"convert to a number keeps digits", `{convert: {field: a, to: number}}`, `{"a":"12345678901234567890.10"}`, `{"a":12345678901234567890.10}`},
		{"convert to a whole number", `{convert: {field: a, to: integer}}`, `{"a":"3.0"}`, `{"a":3}`},
		{"convert what is not whole", `{convert: {field: a, to: integer}}`, `{"a":3.5}`, "refused: all: convert a: 3.5 is no whole number"},
		{"convert to cents", `{convert: {field: a, to: integer, times: "100"}}`, `{"a":92233720368547758.07}`, `{"a":9223372036854775807}`},
		{"convert from cents", `{convert: {field: a, to: number, times: "0.01"}}`, `{"a":9223372036854775807}`, `{"a":92233720368547758.07}`},
		{"convert a word", `{convert: {field: a, to: number}}`, `{"a":"ten"}`, `refused: all: convert a: "ten" is no number`},
		{"convert a bomb", `{convert: {field: a, to: integer, times: "2"}}`, `{"a":1e999999999}`, "refused: all: convert a: 1e999999999 is no number that can be calculated with"},
		{"convert to a boolean", `{convert: {field: a, to: boolean}}`, `{"a":"true"}`, `{"a":true}`},
		{"convert null", `{convert: {field: a, to: string}}`, `{"a":null}`, `{"a":null}`},
		{"map", `{map: {field: a, values: {open: OPEN, "1": true}}}`, `{"a":1}`, `{"a":true}`},
		{"map what is not listed", `{map: {field: a, values: {open: OPEN}}}`, `{"a":"lost"}`, `refused: all: map a: no value is listed for "lost"`},
		{"map and keep", `{map: {field: a, values: {open: OPEN}, otherwise: keep}}`, `{"a":"lost"}`, `{"a":"lost"}`},
		{"split", `{split: {field: name, by: " ", into: [first, last]}}`, `{"name":"Ada King Lovelace"}`, `{"first":"Ada","last":"King Lovelace"}`},
		{"split too few", `{split: {field: name, by: " ", into: [first, last]}}`, `{"name":"Ada"}`, `refused: all: split name: "Ada" has 1 parts, and 2 are needed`},
		{"join", `{join: {fields: [first, last], with: " ", into: name}}`, `{"first":"Ada","last":"King","x":1}`, `{"x":1,"name":"Ada King"}`},
		{"join half", `{join: {fields: [first, last], with: " ", into: name}}`, `{"first":"Ada"}`, "refused: all: join name: only some of the fields are there"},
		{"jq keeps digits and order", `{jq: ".b |= map({n: .})"}`, `{"z":12345678901234567890123,"b":[1.10],"a":1}`, `{"z":12345678901234567890123,"b":[{"n":1.10}],"a":1}`},
		{"jq with two results", `{jq: ".[]"}`, `[1,2]`, "refused: all: jq: the expression has more than one result"},
		{"jq that fails", `{jq: ".a.b"}`, `{"a":1}`, `refused: all: jq: expected an object but got: number (1)`},
		{"jq sees no environment", `{jq: "env"}`, `{}`, `{}`},
		{"a body that is no JSON", `{drop: {field: a}}`, `a=1`, "refused"},
		{"no body", `{drop: {field: a}}`, ``, ``},
	} {
		t.Run(test.name, func(t *testing.T) {
			translator := compile(t, changes("        - "+test.op+"\n"))
			r := call(t, "POST /x", test.body)
			_, err := translator.Request(t.Context(), r)
			got := ""
			if err != nil {
				var refusal *message.Refusal
				if !errors.As(err, &refusal) || refusal.Why != message.Untranslatable {
					t.Fatalf("refused by %v", err)
				}
				got = "refused: " + refusal.Detail
				if test.want == "refused" {
					got = test.want
				}
			} else {
				data, err := r.Body.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				got = string(data)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFieldsMoveBetweenTheBodyAndTheHead(t *testing.T) {
	translator := compile(t, `
spec:
  otherwise: refuse
  rules:
    - name: get
      match: {method: [GET], path: '/orders/{id}'}
      to: {method: POST, path: '/v2/{tenant}/find'}
      request:
        - {move: {from: "query:tenant", to: "path:tenant"}}
        - {move: {from: "path:id", to: filter.id}}
        - {move: {from: "header:x-kind", to: filter.kind}}
        - {default: {field: "header:content-type", value: application/json}}
      reply:
        - {move: {from: data, to: .}}
        - {status: {200: 203}}
        - {rename: {from: "header:X-Old", to: x-new}}
      failure:
        - {rename: {from: error, to: title}}
`)
	r := call(t, "GET /orders/a%2F7?tenant=t%20x&z=1", "")
	x, err := translator.Request(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`POST /v2/t%20x/find?z=1 {"filter":{"id":"a/7","kind":"plain"}}`, show(t, r)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(http.Header{"Content-Type": {"application/json"}}, r.Header); diff != "" {
		t.Error(diff)
	}
	good := &message.Response{Status: 200, Header: http.Header{"X-Old": {"v"}}, Body: message.NewBody([]byte(`{"data":{"n":1.0}}`), message.JSON{})}
	if err := x.Response(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	data, err := good.Body.Bytes()
	if err != nil || good.Status != 203 || string(data) != `{"n":1.0}` || good.Header.Get("X-New") != "v" {
		t.Errorf("the reply became %d %v %s, %v", good.Status, good.Header, data, err)
	}
	bad := &message.Response{Status: 404, Header: http.Header{}, Body: message.NewBody([]byte(`{"error":"none"}`), message.JSON{})}
	if err := x.Response(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	if data, _ := bad.Body.Bytes(); string(data) != `{"title":"none"}` {
		t.Errorf("the failure became %s", data)
	}
}

func TestTheRuleThatFitsTranslates(t *testing.T) {
	translator := compile(t, `
disallowed:
  - {version: v1, match: {method: [DELETE], path: '/{rest...}'}, reason: nothing can be deleted any more}
spec:
  otherwise: refuse
  rules:
    - {name: large, match: {method: [POST], path: /orders}, when: body.total > 100, to: {path: /large}}
    - {name: urgent, match: {method: [POST], path: /orders, field: {how.fast: true}}, to: {path: /urgent}}
    - {name: plain, match: {method: [POST], path: /orders}, to: {path: /plain}}
    - {name: header, match: {path: /any, header: {x-kind: plain}}, to: {path: /header}}
    - {name: query, match: {path: '/items/{id}'}, when: 'query.deep == "yes" && vars.id != "0"', to: {path: '/deep/{id}'}}
`)
	for _, test := range []struct{ target, body, want string }{
		{"POST /orders", `{"total":101}`, "POST /large"},
		{"POST /orders", `{"total":12345678901234567890123}`, "POST /large"},
		{"POST /orders", `{"total":100.5,"how":{"fast":true}}`, "POST /large"},
		{"POST /orders", `{"total":1,"how":{"fast":true}}`, "POST /urgent"},
		{"POST /orders", `{"total":1,"how":"fast"}`, "POST /plain"},
		{"GET /any", ``, "GET /header"},
		{"GET /items/1?deep=yes", ``, "GET /deep/1?deep=yes"},
		{"GET /items/0?deep=yes", ``, "untranslatable: no rule fits GET /items/0"},
		{"POST /orders", `{}`, `untranslatable: condition "body.total > 100": no such key: total`},
		{"DELETE /orders/1", ``, "disallowed: nothing can be deleted any more"},
	} {
		r := call(t, test.target, test.body)
		_, err := translator.Request(t.Context(), r)
		got, _, _ := strings.Cut(show(t, r), " {")
		got = strings.TrimSpace(got)
		var refusal *message.Refusal
		if errors.As(err, &refusal) {
			got = string(refusal.Why) + ": " + refusal.Detail
		} else if err != nil {
			t.Fatal(err)
		}
		if got != test.want {
			t.Errorf("%s %s: %s", test.target, test.body, cmp.Diff(test.want, got))
		}
	}
}

func TestWhatIsWrongIsReportedWithPlaceAndRemedy(t *testing.T) {
	rules := func(list string) string { return "spec:\n  otherwise: refuse\n  rules:\n" + list }
	for _, test := range []struct{ name, text, want string }{
		{"an unknown otherwise", "spec: {otherwise: maybe}", "otherwise: \"maybe\" is not known"},
		{"two changes in one", changes("        - {drop: {field: a}, jq: .}\n"), "rules[0].request[0]: has 2 changes (drop, jq)"},
		{"no change", changes("        - {in: a}\n"), "rules[0].request[0]: has 0 changes ()"},
		{"jq that is none", changes("        - {jq: '.a |'}\n"), "rules[0].request[0].jq: unexpected EOF"},
		{"an unknown function", changes("        - {jq: 'frob'}\n"), "rules[0].request[0].jq: function not defined: frob/0"},
		{"a kind that is none", changes("        - {convert: {field: a, to: float}}\n"), `rules[0].request[0].convert.to: "float" is not known`},
		{"a list in a field", changes("        - {drop: {field: 'a[].b'}}\n"), `rules[0].request[0].drop.field: field "a[].b" has a bracket in it: lists are chosen by in`},
		{"a header in a list", changes("        - {in: 'a[]', move: {from: b, to: 'header:X'}}\n"), "rules[0].request[0].in: the change is not only in the body"},
		{"a status of a request", changes("        - {status: {200: 201}}\n"), "rules[0].request[0].status: a request has no status"},
		{"a path without slash", rules("    - {name: a, match: {path: orders}}\n"), `rules[0].match.path: path "orders" does not begin with a slash`},
		{"a condition that is none", rules("    - {name: a, match: {path: /}, when: 'method +'}\n"), "rules[0].when: "},
		{"a condition that is a text", rules("    - {name: a, match: {path: /}, when: method}\n"), "rules[0].when: the condition is string, not true or false"},
		{"a name without value", rules("    - {name: a, match: {path: /}, to: {path: '/{id}'}}\n"), "rules[0].to.path: nothing gives {id} a value"},
		{"a rule that is never reached", rules("    - {name: a, match: {path: '/{x}'}}\n    - {name: b, match: {path: /b}}\n"), `rules[1].match: no call reaches this rule: "a" (rules[0]) takes them all`},
		{"a name that is there twice", rules("    - {name: a, match: {path: /a}}\n    - {name: a, match: {path: /b}}\n"), `rules[1].name: "a" is there twice`},
		{"rules that compete", rules("    - {name: a, match: {path: '/{x}/1'}}\n    - {name: b, match: {path: '/b/{y}'}}\n"), `rules[1].match: some calls fit this rule and "a" (rules[0])`},
		{"a disallowed call", "spec: {otherwise: pass}\ndisallowed: [{version: v1, match: {path: x}, reason: r}]\n", `disallowed[0].match.path: path "x" does not begin with a slash`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, problems := tryCompile(t, test.text)
			if len(problems) == 0 {
				t.Fatal("nothing was found")
			}
			if got := problems[0].Field + ": " + problems[0].Reason; !strings.HasPrefix(got, test.want) || problems[0].Remedy == "" {
				t.Errorf("%s\nremedy: %s", cmp.Diff(test.want, got), problems[0].Remedy)
			}
		})
	}
}

func TestExceptionsMayStandBeforeWhatCoversThem(t *testing.T) {
	compile(t, `
spec:
  otherwise: refuse
  rules:
    - {name: one, match: {method: [GET], path: /orders/first}}
    - {name: conditional, match: {path: '/{x}/2'}, when: 'method == "GET"'}
    - {name: all, match: {path: '/orders/{id}'}}
    - {name: other header, match: {path: /x, header: {A: "1"}}}
    - {name: another header, match: {path: /x, header: {A: "2"}}}
`)
}

func TestMessagesOfAStreamAreTranslatedOneByOne(t *testing.T) {
	translator := compile(t, `
spec:
  otherwise: refuse
  rules:
    - name: stream
      match: {path: /s}
      request: [{rename: {from: a, to: b}}, {drop: {field: "header:x-kind"}}]
      reply: [{jq: ".n += 1"}]
    - {name: whole, match: {path: /whole}, request: [{move: {from: a, to: "header:A"}}]}
    - {name: looks, match: {path: /looks, field: {a: 1}}}
`)
	r := call(t, "POST /s", "")
	r.Stream = true
	x, err := translator.Request(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Header) != 0 {
		t.Errorf("the head kept %v", r.Header)
	}
	if items, replies := x.Touches(); !items || !replies {
		t.Error("it says that messages pass")
	}
	item, _ := message.ParseJSON([]byte(`{"a":1}`))
	if err := x.Item(t.Context(), item); err != nil || item.String() != `{"b":1}` {
		t.Errorf("%s, %v", item, err)
	}
	if err := x.Response(t.Context(), &message.Response{Status: 200, Stream: true}); err != nil {
		t.Fatal(err)
	}
	item, _ = message.ParseJSON([]byte(`{"n":1}`))
	if err := x.ReplyItem(t.Context(), item); err != nil || item.String() != `{"n":2}` {
		t.Errorf("%s, %v", item, err)
	}
	for _, path := range []string{"/whole", "/looks"} {
		r := call(t, "POST "+path, "")
		r.Stream = true
		var refusal *message.Refusal
		if _, err := translator.Request(t.Context(), r); !errors.As(err, &refusal) {
			t.Errorf("%s was taken: %v", path, err)
		}
	}
}

func TestAnEndlessExpressionIsStopped(t *testing.T) {
	translator := compile(t, changes("        - {jq: 'def f: f; f'}\n"))
	var refusal *message.Refusal
	if _, err := translator.Request(t.Context(), call(t, "POST /x", "{}")); !errors.As(err, &refusal) {
		t.Errorf("it ended with %v", err)
	}
}

func TestGapsBetweenTranslatorsAreFound(t *testing.T) {
	first := compile(t, `
spec:
  otherwise: refuse
  rules:
    - {name: known, match: {method: [GET], path: '/a/{id}'}, to: {path: '/b/{id}'}}
    - {name: unknown, match: {method: [GET], path: /c}, to: {method: PUT, path: /d}}
    - {name: forbidden, match: {path: /e}}
`)
	second := compile(t, `
disallowed: [{version: v2, match: {path: /e}, reason: gone}]
spec:
  otherwise: refuse
  rules:
    - {name: b, match: {path: '/b/{id}'}}
    - {name: d, match: {method: [GET], path: /d}}
`)
	want := []Gap{
		{1, "no rule between the next two versions fits PUT /d, and they refuse what no rule fits"},
	}
	if diff := cmp.Diff(want, first.Gaps(second)); diff != "" {
		t.Error(diff)
	}
}

// A translator and its inverse give back every body that they take.
func FuzzThereAndBack(f *testing.F) {
	for _, seed := range []string{
		`{"name":"Ada King","cents":1250,"state":"open","items":[{"sku":1}]}`, `{"name":"x","cents":1.5}`, `{"cents":1e400,"items":{}}`, `[]`, `{"first":"a b"}`,
	} {
		f.Add(seed)
	}
	there := compile(f, changes(`        - {split: {field: name, by: " ", into: [who.first, who.last]}}
        - {convert: {field: cents, to: number, times: "0.01"}}
        - {rename: {from: cents, to: price}}
        - {map: {field: state, values: {open: 1, closed: 2}}}
        - {in: "items[]", rename: {from: sku, to: article}}
`))
	back := compile(f, changes(`        - {in: "items[]", rename: {from: article, to: sku}}
        - {map: {field: state, values: {"1": open, "2": closed}}}
        - {rename: {from: price, to: cents}}
        - {convert: {field: cents, to: number, times: "100"}}
        - {join: {fields: [who.first, who.last], with: " ", into: name}}
`))
	f.Fuzz(func(t *testing.T, body string) {
		r := call(t, "POST /x", body)
		before, err := message.ParseJSON([]byte(body))
		// What has the new names already is not an old call.
		if err != nil || before.Kind() != message.Object || before.Get("who") != nil || before.Get("price") != nil || strings.Contains(body, "article") {
			return
		}
		if _, err := there.Request(t.Context(), r); err != nil {
			return
		}
		_, err = back.Request(t.Context(), r)
		if err != nil && strings.Contains(err.Error(), "no exact value") {
			return // so many digits that it can go there, and not back
		}
		if err != nil {
			t.Fatalf("%s went there as %s, and not back: %v", body, show(t, r), err)
		}
		after, err := r.Body.Value()
		if err != nil {
			t.Fatal(err)
		}
		if before.Get("cents") != nil && before.Get("cents").Kind() == message.String {
			return // a text with digits became the number that it means
		}
		if d := message.Difference(after, before); d != "" {
			t.Fatalf("%s came back as %s: %s", body, after, d)
		}
	})
}
