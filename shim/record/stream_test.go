package record

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"drydock/shim/module/moduletest"
)

// peopleFiles are what stands beside the record, built once for the test.
func peopleFiles(t *testing.T) fstest.MapFS {
	t.Helper()
	return fstest.MapFS{"people.wasm": {Data: moduletest.Build(t, "../..", "shim/module/people/wasm")}}
}

func TestARecordOfAStreamAndItsModuleHold(t *testing.T) {
	files, text := peopleFiles(t), read(t, "../../configs/services/people.yaml")
	r, err := Parse("people.yaml", []byte(text), files)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if fault := r.Fault("v2", "v1"); fault != "-ERR the translator failed\r\n" {
		t.Errorf("the fault is %q", fault)
	}
	for name, test := range map[string]struct {
		change func([]Transcript)
		want   string
	}{
		"a wrong answer": {func(all []Transcript) { all[2].New.Gets = ":0\r\n" },
			`people.yaml:28:56: pairs[0].transcripts[2].new.gets: a wrong transcript: on the way down it is ":1\r\n", expected ":0\r\n"`},
		"a wrong command": {func(all []Transcript) { all[0].New.Sends = "PING\r\n" }, "pairs[0].transcripts[0].new.sends: a wrong transcript: on the way up"},
		"a wrong refusal": {func(all []Transcript) { all[3].Refused = "untranslatable" }, "pairs[0].transcripts[3].refused: a wrong transcript: the call is taken"},
		"an unknown way":  {func(all []Transcript) { all[1].Direction = "sideways" }, `pairs[0].transcripts[1].direction: "sideways" is not known`},
		"one side":        {func(all []Transcript) { all[1].New = nil }, "pairs[0].transcripts[1]: has one side only"},
	} {
		t.Run(name, func(t *testing.T) {
			kept := r.Pairs[0].Transcripts
			defer func() { r.Pairs[0].Transcripts = kept }()
			r.Pairs[0].Transcripts = slices.Clone(kept)
			for i, one := range kept {
				if one.New != nil {
					spoken := *one.New
					r.Pairs[0].Transcripts[i].New = &spoken
				}
			}
			test.change(r.Pairs[0].Transcripts)
			if err := r.Check(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v", err)
			}
		})
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatDoesNotGoTogetherWithAStreamIsRefused(t *testing.T) {
	text := read(t, "../../configs/services/people.yaml")
	noModule := fstest.MapFS{"people.wasm": {Data: []byte("nonsense")}}
	for name, test := range map[string]struct{ from, to, want string }{
		"a module that is none": {"x", "x", "people.yaml:12:22: pairs[0].up.module.file: module people.wasm: "},
		"a missing module":      {"file: people.wasm", "file: other.wasm", "pairs[0].up.module.file: open other.wasm: file does not exist"},
		"a header":              {"  default: v1", "  default: v1\n  header: X-Version", "client.header: a stream has no header"},
		"rules":                 {`module: {file: people.wasm, fault: "-ERR the translator failed\r\n"}`, "otherwise: pass", "pairs[0].up: a stream is translated by a module"},
		"a protocol":            {"protocol: stream", "protocol: smoke", `protocol: "smoke" is not known`},
		"HTTP":                  {"protocol: stream", "protocol: http", "pairs[0].up.module: calls of HTTP are translated by rules"},
		"disallowed calls":      {"disallowed: none", "disallowed: []", "pairs[0].disallowed: the module says what is disallowed"},
		"no transcripts":        {text[strings.Index(text, "    transcripts:"):], "", "pairs[0].transcripts: missing"},
		"a size":                {"file: people.wasm,", "file: people.wasm, memory: big,", `pairs[0].up.module.memory: "big" is no size`},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := strings.Replace(text, test.from, test.to, 1)
			_, err := Parse("people.yaml", []byte(wrong), noModule)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v", err)
			}
		})
	}
}
