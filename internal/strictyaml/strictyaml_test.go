package strictyaml

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

type thing struct {
	Name  string         `yaml:"name" need:"write name: NAME"`
	Count int            `yaml:"count"`
	Wait  time.Duration  `yaml:"wait"`
	Parts []part         `yaml:"parts"`
	Words map[int]string `yaml:"words"`
	Part  maybe          `yaml:"part"`
	Any   yaml.Node      `yaml:"any"`
}

type part struct {
	Size int `yaml:"size"`
}

type maybe struct {
	none bool
	part part
}

func (m *maybe) Alternatives() ([]string, any) { return []string{"none"}, &m.part }

func (m *maybe) UnmarshalYAML(node *yaml.Node) error {
	if m.none = node.Kind == yaml.ScalarNode; m.none {
		return nil
	}
	return node.Decode(&m.part)
}

func TestWhatIsRightIsRead(t *testing.T) {
	var got thing
	_, err := Decode("f.yaml", []byte("name: a\ncount: 2\nwait: 3s\nparts: [{size: 1}]\nwords: {7: x}\npart: none\nany: {a: [1]}\n"), &got)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "a" || got.Count != 2 || got.Wait != 3*time.Second || got.Parts[0].Size != 1 || got.Words[7] != "x" || !got.Part.none {
		t.Errorf("read %+v", got)
	}
}

func TestEverythingWrongIsReportedAtItsPlace(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"an unknown key", "name: a\nparts:\n  - size: 1\n    sise: 2\n", "f.yaml:4:5: parts[0].sise: unknown key; remove it, or use one of: size"},
		{"a missing key", "count: 1\n", "f.yaml:1:1: name: missing; write name: NAME"},
		{"a key that is there twice", "name: a\nname: b\n", "f.yaml:2:1: name: stands in line 1 already; keep one of the two"},
		{"a wrong number", "name: a\ncount: many\n", `f.yaml:2:8: count: "many" is not a whole number; write a whole number`},
		{"a number of another kind", "name: a\ncount: 1.5\n", `f.yaml:2:8: count: "1.5" is not a whole number; write a whole number`},
		{"a key of another kind", "name: a\nwords: {seven: x}\n", `f.yaml:2:9: words.seven: "seven" is not a whole number; write a whole number`},
		{"a list for keys", "name: a\nwords: [x]\n", "f.yaml:2:8: words: has no keys; write KEY: VALUE below it"},
		{"a number without unit", "name: a\nwait: ten\n", `f.yaml:2:7: wait: "ten" is not a time with its unit, such as 90s, 30m, 12h or 7d; write a time with its unit, such as 90s, 30m, 12h or 7d`},
		{"a list that is none", "name: a\nparts: 3\n", "f.yaml:2:8: parts: is no list; write it in brackets, or one entry in a line, each after a dash"},
		{"an empty value", "name:\n", "f.yaml:1:6: name: has no value of its own; write a text"},
		{"an unknown word", "name: a\npart: nothing\n", `f.yaml:2:7: part: "nothing" is not known here; write none, or what the guide shows for it`},
		{"an alias", "name: a\nany: &x [1]\npart: *x\n", "f.yaml:2:6: any: anchors and aliases are not supported; write the value out\n" +
			"f.yaml:3:7: part: anchors and aliases are not supported; write the value out"},
		{"a merge", "name: a\nany:\n  <<: {a: 1}\n", "f.yaml:3:3: any.<<: only plain keys are supported; write the keys out"},
		{"nothing", "", "f.yaml:1:1: the file is empty; write it as the guide shows"},
		{"two documents", "name: a\n---\nname: b\n", "f.yaml:2:1: a second document begins here; put it into a file of its own"},
		{"no YAML", "name: a\n\tcount: 1\n", "correct the YAML there"},
		{"deep nesting", "name: a\nany: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n",
			"f.yaml:2:105: any" + strings.Repeat("[0]", 99) + ": nested deeper than 100; write it flatter"},
		{"no mapping", "- 1\n", "f.yaml:1:1: has no keys; write its keys below it: name, count, wait, parts, words, part, any"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var into thing
			_, err := Decode("f.yaml", []byte(test.text), &into)
			if err == nil {
				t.Fatal("it was taken")
			}
			if got := err.Error(); got != test.want && (test.name != "no YAML" || !strings.Contains(got, test.want)) {
				t.Error(cmp.Diff(test.want, got))
			}
		})
	}
}

func TestAProblemFoundLaterHasThePlaceOfWhatHoldsIt(t *testing.T) {
	var into thing
	d, err := Decode("f.yaml", []byte("name: a\nparts:\n  - size: 1\n"), &into)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"parts[0].size": "f.yaml:3:11: parts[0].size: r; m", "parts[0].colour.shade": "f.yaml:3:5: parts[0].colour.shade: r; m",
	} {
		if got := d.Problem(path, "r", "m").String(); got != want {
			t.Error(cmp.Diff(want, got))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\nparts: [{size: 1}]\npart: none\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? [1]\n: 2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var into thing
		d, err := Decode("f.yaml", data, &into)
		var problems Problems
		switch {
		case err != nil && (!errors.As(err, &problems) || len(problems) == 0):
			t.Errorf("refused without a reason: %v", err)
		case err == nil && d == nil:
			t.Error("taken without a document")
		}
	})
}
