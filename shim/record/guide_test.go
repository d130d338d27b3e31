package record

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"drydock/internal/strictyaml"

	"go.yaml.in/yaml/v3"
)

// snippets are the fenced blocks of the guide, by the words behind the fence.
func snippets(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, m := range regexp.MustCompile("(?ms)^```([a-z ]+)\n(.*?)^```$").FindAllStringSubmatch(read(t, "../../docs/shim.md"), -1) {
		found[m[1]] = append(found[m[1]], m[2])
	}
	return found
}

func TestTheGuidesRecordHolds(t *testing.T) {
	for _, text := range snippets(t)["yaml record"] {
		r, err := Parse("greeter.yaml", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestTheGuidesMistakeIsAnsweredAsItSays(t *testing.T) {
	all := snippets(t)
	if len(all["yaml record"]) != 1 || len(all["text langage"]) != 1 || len(all["yaml"]) != 1 {
		t.Fatalf("the guide's snippets have changed: %d kinds", len(all))
	}
	r, err := Parse("greeter.yaml", []byte(strings.Replace(all["yaml record"][0], "{field: language, value: en}", "{field: langage, value: en}", 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	var found strictyaml.Problems
	if err := r.Check(t.Context()); !errors.As(err, &found) || !strings.Contains(found.Error(), strings.TrimSpace(all["text langage"][0])) {
		t.Errorf("it answers %v", found)
	}
}

func TestTheGuidesDescriptorsAreAKeyOfTheRecord(t *testing.T) {
	var spec struct {
		Descriptors map[string]string `yaml:"descriptors" need:"the guide's snippet has it"`
	}
	if _, err := strictyaml.Decode("shim.md", []byte(snippets(t)["yaml"][0]), &spec); err != nil {
		t.Fatal(err)
	}
	if spec.Descriptors["v1"] == "" {
		t.Errorf("read %v", spec)
	}
}

// Every change in the guide's table is one that rules have.
func TestTheGuidesChangesAreRead(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| `([a-z]+: .*?)` \\|").FindAllStringSubmatch(read(t, "../../docs/shim.md"), -1)
	if len(rows) != 11 {
		t.Fatalf("the guide has %d changes", len(rows))
	}
	for _, row := range rows {
		var change yaml.Node
		text := strings.ReplaceAll(row[1], `\|`, "|")
		if err := yaml.Unmarshal([]byte(text), &change); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		record := "service: s\nclient: {default: v1}\nversions: [v1, v2]\npairs:\n  - between: [v1, v2]\n    down: none\n    transform: none\n" +
			"    schedule: none\n    disallowed: none\n    examples: [{name: e}]\n    up:\n      otherwise: pass\n      rules:\n        - name: r\n" +
			"          match: {path: /}\n          reply:\n            - " + text + "\n"
		if _, err := Parse("table.yaml", []byte(record), nil); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTheGuidesModuleIsThatOfTheShippedRecord(t *testing.T) {
	found := snippets(t)["yaml stream"]
	text := read(t, "../../configs/services/people.yaml")
	const mine = "    up:\n      module: {file: people.wasm, fault: \"-ERR the translator failed\\r\\n\"}\n"
	if len(found) != 1 || !strings.Contains(text, mine) {
		t.Fatal("the guide's snippet or the record has changed")
	}
	var problems strictyaml.Problems
	_, err := Parse("people.yaml", []byte(strings.Replace(text, mine, found[0], 1)), fstest.MapFS{})
	if !errors.As(err, &problems) || len(problems) != 2 { // the module itself is not there, twice
		t.Errorf("it says %v", err)
	}
}

func TestTheGuidesKeptFieldHolds(t *testing.T) {
	found := snippets(t)["yaml kept"]
	if len(found) != 1 {
		t.Fatalf("the guide has %d such snippets", len(found))
	}
	text := "service: s\nclient: {default: v1}\nversions: [v1, v2]\npairs:\n  - between: [v1, v2]\n    up: none\n    transform: none\n" +
		"    schedule: none\n    disallowed: none\n    down:\n      otherwise: refuse\n" + found[0]
	r, err := Parse("kept.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(t.Context()); err != nil || !r.Keeps() {
		t.Errorf("%v; keeps: %v", err, r.Keeps())
	}
}

func TestTheGuidesGatewayIsOneOfARecord(t *testing.T) {
	found := snippets(t)["yaml front"]
	if len(found) != 1 {
		t.Fatalf("the guide has %d such snippets", len(found))
	}
	r, err := Parse("orders.yaml", []byte(found[0]+read(t, orders)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Gateway.Pod != "orders-front" || r.Gateway.Ports[0] != 8080 {
		t.Errorf("read %+v", r.Gateway)
	}
}
