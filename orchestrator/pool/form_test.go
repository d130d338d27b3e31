package pool

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsWrongWithTheFormOfAFileIsSaidInAPoolsWords(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"an unknown key": {head + "soak: {hots: 1m}\n", "p.yaml:3:8: `soak.hots`: is not known: did you mean `host`? The keys here are host, canaries"},
		"an unknown key of a pool": {head + "rebot: never\n", "p.yaml:3:1: `rebot`: is not known: did you mean `reboot`? The keys here are " +
			"name, hosts, windows, schedule, min-period, patch, reboot, at-once, pods, soak, error-budget, gates, hooks, fence, notify, mixed"},
		"a key twice":         {head + "soak: {host: 1m, host: 2m}\n", "p.yaml:3:18: `soak.host`: stands in line 3 already: keep one of the two"},
		"no keys":             {head + "soak: []\n", "p.yaml:3:7: `soak`: has no keys: write its keys below it: host, canaries"},
		"nothing for keys":    {head + "soak:\n", "p.yaml:3:6: `soak`: has no keys: write its keys below it: host, canaries"},
		"no labels":           {"name: web\nhosts: {names: [a], labels: b}\n", "p.yaml:2:29: `hosts.labels`: is no set of labels: write for example {tier: web}"},
		"a label of a number": {"name: web\nhosts: {labels: {a: 1}}\n", "p.yaml:2:21: `hosts.labels.a`: 1 is no text: put it in quotes: \"1\""},
		"no list":             {head + "windows: 3\n", "p.yaml:3:10: `windows`: is no list: write it in brackets, or one entry in a line, each after a dash"},
		"no value":            {head + "reboot:\n", "p.yaml:3:8: `reboot`: has no value of its own: write a text"},
		"a list for a value":  {head + "mixed: [true]\n", "p.yaml:3:8: `mixed`: has no value of its own: write true or false"},
		"a number for a text": {head + "reboot: 3\n", "p.yaml:3:9: `reboot`: 3 is no text: put it in quotes: \"3\""},
		"no time": {head + "soak: {host: 5}\n", "p.yaml:3:14: `soak.host`: \"5\" is not a time with its unit, such as 90s, 30m, 12h or 7d: " +
			"write a time with its unit, such as 90s, 30m, 12h or 7d"},
		"no truth":         {head + "mixed: 1\n", "p.yaml:3:8: `mixed`: \"1\" is not true or false: write true or false"},
		"no whole number":  {head + "at-once: {hosts: 1.5}\n", "p.yaml:3:18: `at-once.hosts`: \"1.5\" is not a whole number: write a whole number"},
		"no number":        {head + "gates: [{name: g, prometheus: {url: \"http://p\", query: up, below: x}}]\n", "p.yaml:3:67: `gates[0].prometheus.below`: \"x\" is not a number: write a number"},
		"an anchor":        {head + "patch: &p {what: all}\n", "p.yaml:3:8: `patch`: anchors and aliases are not supported: write the value out"},
		"nothing":          {"", "p.yaml:1:1: the file is empty: describe a pool; see docs/pools.md"},
		"two documents":    {head + "---\n" + head, "p.yaml:3:1: a second document begins here: put each pool in a file of its own"},
		"no YAML":          {"name: [\n", "p.yaml:1:1: did not find expected node content: correct the YAML there"},
		"no YAML, no line": {"name: \x01\n", "p.yaml: control characters are not allowed: correct the YAML there"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(test.text))
			if err == nil {
				t.Fatal("it was taken")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
