package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"drydock/internal/strictyaml"
	"drydock/shim/schema/schematest"
)

const orders = "../../configs/services/orders.yaml"

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEveryRecordThatIsShippedHolds(t *testing.T) {
	files, err := filepath.Glob("../../configs/services/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		if filepath.Base(file) == "people.yaml" {
			continue // it is checked with its module, in TestARecordOfAStreamAndItsModuleHold
		}
		r, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// problems parses and checks what remains of the order service's record after a replacement.
func problems(t *testing.T, old, replacement string) strictyaml.Problems {
	t.Helper()
	text := read(t, orders)
	if strings.Count(text, old) == 0 {
		t.Fatalf("the record has no %q", old)
	}
	r, err := Parse("orders.yaml", []byte(strings.Replace(text, old, replacement, 1)), fstest.MapFS{"empty": {}})
	if err == nil {
		err = r.Check(t.Context())
	}
	var found strictyaml.Problems
	if !errors.As(err, &found) {
		t.Fatalf("it holds: %v", err)
	}
	return found
}

func TestWhatIsWrongIsRefusedWithPlaceAndRemedy(t *testing.T) {
	for _, test := range []struct{ name, old, replacement, want string }{
		{"a missing transform", "    transform: none\n", "",
			"97:5: pairs[1].transform: missing; write transform: {command: [PROGRAM]}, or transform: none where no stored state changes"},
		{"a missing schedule", "    schedule: {kind: rolling, at-once: 1, soak: 1m}\n", "",
			"9:5: pairs[0].schedule: missing; write schedule: {kind: rolling}, or schedule: none for upgrades by hand only"},
		{"a part without a value", "transform: none", "transform:",
			`pairs[1].transform: "" is not known here; write none, or what the guide shows for it`},
		{"an unknown key", "soak: 1m", "sock: 1m", "pairs[0].schedule.sock: unknown key; remove it, or use one of: kind, at-once, soak, flag, label, percent"},
		{"a gateway without a header", "  header: X-Orders-Version\n  default: v1\n", "  default: v1\ngateway: {pod: front, image: idle, ports: [80]}\n",
			"gateway: the record has no header that tells the servers' shims what a client speaks; write client.header, or remove the gateway"},
		{"a gateway without a port", "pairs:\n", "gateway: {pod: front, image: idle}\npairs:\n", "gateway.ports: missing; write ports: [8080], where clients connect"},
		{"a gateway with wrong ports", "pairs:\n", "gateway: {pod: front, image: idle, ports: [80, 80]}\npairs:\n", "gateway.ports[1]: 80 is no port, or there twice"},
		{"a gateway with a wrong address", "pairs:\n", "gateway: {pod: front, image: idle, ports: [80], address: here}\npairs:\n", `gateway.address: "here" is no address`},
		{"a gap", "versions: [v1, v2, v3]", "versions: [v1, v2, v3, v4]",
			"9:3: pairs: a gap: nothing is said about v3 and v4; add a pair with between: [v3, v4]"},
		{"an unknown version", "between: [v2, v3]", "between: [v2, v9]",
			`97:19: pairs[1].between[1]: "v9" is not among the versions; use one of: v1, v2, v3`},
		{"a step over a version", "between: [v2, v3]", "between: [v1, v3]",
			"pairs[1].between: v1 and v3 are no neighbours; chains go from neighbour to neighbour: write a pair for each step between them"},
		{"a pair backwards", "between: [v2, v3]", "between: [v3, v2]",
			"pairs[1].between: v2 is the older one; write between: [v2, v3], and see that up and down are right"},
		{"an ambiguous pair", "between: [v2, v3]", "between: [v1, v2]", "pairs[1].between: the pair v1 and v2 is at pairs[0] already; remove one of them"},
		{"a version twice", "versions: [v1, v2, v3]", "versions: [v1, v2, v3, v3]", "versions[3]: v3 is there twice; remove one of them"},
		{"an unknown default", "default: v1", "default: v0", `client.default: "v0" is not among the versions; use one of: v1, v2, v3`},
		{"a rule that is wrong", "match: {method: [GET], path: /orders}", "match: {method: [GET], path: orders}",
			`pairs[0].up.rules[2].match.path: path "orders" does not begin with a slash; write it like /orders/{id} or /files/{rest...}`},
		{"a disallowed call that is wrong", "path: '/orders/{id}/history'}\n        reason", "path: 'orders'}\n        reason",
			`pairs[0].disallowed[1].match.path: path "orders" does not begin with a slash; write it like /orders/{id} or /files/{rest...}`},
		{"a disallowed call of another pair", "- version: v2\n", "- version: v3\n", `pairs[0].disallowed[1].version: "v3" is not of this pair; use one of: v1, v2`},
		{"translators that do not compose", "match: {path: '/orders/{id}'}\n          to: {path: '/tenants", "match: {path: '/order/{id}'}\n          to: {path: '/tenants",
			"pairs[0].up.rules[0]: does not compose: no rule between the next two versions fits PUT /orders/{id}, and they refuse what no rule fits; " +
				"add a rule there, say otherwise: pass there, or disallow the call"},
		{"a wrong body", "cents: 1250}}\n          reply: {status: 204}", "cents: 1251}}\n          reply: {status: 204}",
			"pairs[0].examples[0].new.request: a wrong example: on the way up cents is 1250, expected 1251; correct the rule or the example"},
		{"a wrong status", "cents: 1250}}\n          reply: {status: 204}", "cents: 1250}}\n          reply: {status: 200}",
			"pairs[0].examples[0].old.reply: a wrong example: on the way up the status is 200, expected 204; correct the rule or the example"},
		{"a wrong number, by one in 2^63", "9223372036854775807", "9223372036854775808",
			"pairs[0].examples[1].old.reply: a wrong example: on the way up total is 92233720368547758.08, expected 92233720368547758.07; correct the rule or the example"},
		{"a loss that is not declared", "        lossy: the header is there on the way back, and says the same\n", "",
			"pairs[1].examples[1]: the round trip up and back loses something: the header is {X-Tenant: main}, expected {}; correct the rules, or write lossy: and what is lost"},
		{"a loss that is none", "      - name: a history\n", "      - name: a history\n        lossy: all\n", "pairs[1].examples[2].lossy: nothing is lost; remove it"},
		{"a refusal that is none", "old: {request: {method: DELETE, path: /orders/7}}", "old: {request: {method: GET, path: /orders/7}}",
			"pairs[0].examples[3].refused: a wrong example: the call is taken; disallow it, or say what it becomes"},
		{"descriptors that are not there", "versions: [v1", "descriptors: {v1: x.binpb}\nversions: [v1", "6:19: descriptors.v1: open x.binpb: file does not exist; name a file beside the record; buf build -o FILE writes it"},
		{"descriptors that are none", "versions: [v1", "descriptors: {v1: empty}\nversions: [v1", "descriptors.v1: descriptor set: it has no service; write it with buf build"},
		{"descriptors of an unknown version", "versions: [v1", "descriptors: {v7: empty}\nversions: [v1", `descriptors.v7: "v7" is not among the versions`},
		{"a schedule without its flag", "kind: rolling", "kind: flag", "pairs[0].schedule: a flag schedule needs flag; write flag:"},
		{"a schedule with too much", "kind: rolling", "label: x, kind: rolling", "pairs[0].schedule.label: a rolling schedule has no label; remove it"},
		{"a transform without end", "timeout: 5m", "timeout: 0s", "pairs[0].transform.timeout: is not more than 0; write timeout: 5m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := problems(t, test.old, test.replacement)
			got := found.Error()
			for _, one := range found {
				if one.Line == 0 || one.Column == 0 || one.Remedy == "" {
					t.Errorf("without place or remedy: %s", one)
				}
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("%s\nall:\n%s", cmp.Diff(test.want, found[0].String()), got)
			}
		})
	}
}

func TestARuleWithoutExampleIsFound(t *testing.T) {
	text := read(t, orders)
	start := strings.Index(text, "      - name: orders are listed")
	end := strings.Index(text, "      - name: an order cannot be deleted")
	r, err := Parse("orders.yaml", []byte(text[:start]+text[end:]), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "pairs[0].up.rules[2].name: no example goes through this rule; add one below pairs[0].examples") {
		t.Errorf("it says %v", err)
	}
}

func TestAnExampleThatTheNextPairCannotCarryOnIsFound(t *testing.T) {
	found := problems(t, "        - name: one order\n          match: {path: '/orders/{id}'}", "        - name: one order\n          match: {path: '/orders/{id}', header: {X-Tenant: acme}}")
	want := "pairs[0].examples[0]: does not compose: between v2 and v3: no rule fits PUT /orders/7; add a rule there for what this one makes, or disallow the call"
	if !strings.Contains(found.Error(), want) {
		t.Error(cmp.Diff(want, found.Error()))
	}
}

func TestASingleVersionNeedsNoPairs(t *testing.T) {
	r, err := Parse("one.yaml", []byte("service: one\nclient: {default: v1}\nversions: [v1]\npairs: []\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Line.Plan("v1", "v1", nil); err != nil {
		t.Error(err)
	}
}

func TestBodiesOfGRPCExamplesAreWrittenByTheirDescriptors(t *testing.T) {
	const order = `syntax = "proto3"; package %s; message Order { int64 id = 1; string %s = 2; } service Orders { rpc Put(Order) returns (Order); }`
	const text = `
service: orders
client: {default: v1}
versions: [v1, v2]
descriptors: {v1: v1.binpb, v2: v2.binpb}
pairs:
  - between: [v1, v2]
    up:
      otherwise: refuse
      rules:
        - name: put
          match: {path: /one.Orders/Put}
          to: {path: /two.Orders/Put}
          request: [{rename: {from: name, to: customer}}]
          reply: [{rename: {from: customer, to: name}}]
    down:
      otherwise: refuse
      rules:
        - name: put
          match: {path: /two.Orders/Put}
          to: {path: /one.Orders/Put}
          request: [{rename: {from: customer, to: name}}]
          reply: [{rename: {from: name, to: customer}}]
    transform: none
    schedule: none
    disallowed: none
    examples:
      - name: put
        old:
          request: {method: POST, path: /one.Orders/Put, body: {id: '1', name: Ada}}
          reply: {status: 200, body: {name: Ada}}
        new:
          request: {method: POST, path: /two.Orders/Put, body: {id: '1', customer: Ada}}
          reply: {status: 200, body: {customer: Ada}}
`
	files := fstest.MapFS{
		"v1.binpb": {Data: schematest.Set(t, fmt.Sprintf(order, "one", "name"))}, "v2.binpb": {Data: schematest.Set(t, fmt.Sprintf(order, "two", "customer"))},
	}
	r, err := Parse("grpc.yaml", []byte(text), files)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(t.Context()); err != nil {
		t.Error(err)
	}
	files["v2.binpb"] = &fstest.MapFile{Data: schematest.Set(t, fmt.Sprintf(order, "two", "client"))}
	if r, err = Parse("grpc.yaml", []byte(text), files); err != nil {
		t.Fatal(err)
	}
	if err = r.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "grpc.yaml:33:64: pairs[0].examples[0].new.request.body: no two.Order") {
		t.Errorf("a field that is not in the descriptor: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(read(f, orders))
	f.Add("service: one\nclient: {default: v1}\nversions: [v1]\npairs: []\n")
	f.Add("pairs:\n  - between: [v1, v2]\n    up: none\n    down: {rules: [{name: a, match: {path: /}, request: [{jq: .}]}], otherwise: pass}\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse("fuzz.yaml", []byte(text), fstest.MapFS{})
		if err == nil {
			_ = r.Check(t.Context())
			return
		}
		var found strictyaml.Problems
		if errors.As(err, &found) && len(found) == 0 {
			t.Error("refused without a reason")
		}
	})
}
