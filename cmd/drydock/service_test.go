package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// recordsOf are the guide's record, and copies of it with one mistake each, by names of files.
func recordsOf(t *testing.T) map[string]string {
	t.Helper()
	guide, err := os.ReadFile("../../docs/shim.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```yaml record\n(.*?)^```$").FindSubmatch(guide)
	if found == nil {
		t.Fatal("docs/shim.md has no record")
	}
	right := string(found[1])
	records := map[string]string{"greeter": right}
	for name, change := range map[string][]string{
		"missing-part":    {"    transform: none\n", ""},
		"gap":             {"versions: [v1, v2]", "versions: [v1, v2, v3]"},
		"unknown-version": {"default: v1", "default: v7"},
		"wrong-example":   {"{field: language, value: en}", "{field: langage, value: en}"},
		"unknown-key":     {"    transform: none\n", "    transfrom: none\n"},
		"ambiguous": {"      rules:\n        - name: greet\n          match: {method: [POST], path: /greet}\n          request:\n",
			"      rules:\n        - name: anything posted\n          match: {method: [POST], path: '/{rest...}'}\n" +
				"        - name: greet\n          match: {method: [POST], path: /greet}\n          request:\n"},
		"loses": {"            - rename: {from: first, to: name}\n            - drop: {field: language}\n",
			"            - rename: {from: first, to: name}\n            - drop: {field: language}\n            - default: {field: title, value: Dr}\n"},
	} {
		wrong := strings.Replace(right, change[0], change[1], 1)
		if wrong == right {
			t.Fatalf("the guide's record has changed: %q is not in it", change[0])
		}
		records[name] = wrong
	}
	records["does-not-compose"] = strings.Replace(right, "versions: [v1, v2]", "versions: [v1, v2, v3]", 1) + upwards
	return records
}

// upwards is a pair that takes no greeting.
const upwards = `  - between: [v2, v3]
    up:
      otherwise: refuse
      rules:
        - name: health
          match: {method: [GET], path: /health}
    down: none
    transform: none
    schedule: none
    disallowed: none
    examples:
      - name: health
        old: {request: {method: GET, path: /health}, reply: {status: 204}}
        new: {request: {method: GET, path: /health}, reply: {status: 204}}
`
