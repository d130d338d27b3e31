package pool

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/orchestrator/gate"
)

func parse(t *testing.T, text string) *Pool {
	t.Helper()
	p, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheExamplesLoad(t *testing.T) {
	files, err := filepath.Glob("../../configs/pools/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, file := range files {
		p, err := Load(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(p.WindowSet()) != len(p.Windows) {
			t.Errorf("%s: %d windows of %d", file, len(p.WindowSet()), len(p.Windows))
		}
		for _, g := range p.Gates {
			if _, err := gate.New(g.Spec(), nil); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

func TestWhatIsNotWrittenHasADefault(t *testing.T) {
	got := parse(t, "name: lab\nhosts: {names: [h1]}\nwindows: [{from: \"22:00\", to: \"02:00\"}]\ngates: [{name: g, cel: \"true\"}]\n")
	want := &Pool{
		Name: "lab", Hosts: Hosts{Names: []string{"h1"}}, Schedule: ScheduleManual, Reboot: RebootWhenRequired,
		Windows: []Window{{Days: []string{"mon-sun"}, From: "22:00", To: "02:00", Zone: "UTC", MinLeft: 30 * time.Minute}},
		Patch:   Patch{What: PatchSecurity, Conffiles: "keep"},
		AtOnce:  AtOnce{Hosts: 1, Domains: 1, Canaries: 1},
		Pods: Pods{DowntimeBudget: time.Second, Modes: []string{"precopy", "stop"}, CannotMove: CannotMoveBlock,
			Grace: 30 * time.Second, Return: ReturnAffinity},
		Soak: Soak{Host: time.Minute, Canaries: 10 * time.Minute}, ErrorBudget: ErrorBudget{Moves: 3},
		Gates: []Gate{{Name: "g", At: []string{AtHost}, CEL: "true", Timeout: 10 * time.Second, Patience: 5 * time.Minute}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEverythingThatIsWrittenIsRead(t *testing.T) {
	got, err := Load("../../configs/pools/database.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got.Fence.IPMI.Interface != "lanplus" || got.Hooks.BeforeHost[0].Timeout != 15*time.Minute || got.Hooks.BeforeHost[0].Run != RunHost ||
		got.Pods.Apart[0].Scope != ScopeHost || got.Gates[0].At[0] != AtStart || got.Gates[1].Manual == "" || got.Windows[0].MinLeft != time.Hour {
		t.Errorf("got %+v", got)
	}
	web, err := Load("../../configs/pools/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if web.MinPeriod != 6*24*time.Hour || *web.Gates[1].Prometheus.Below != 1 || web.Gates[1].Prometheus.Above != nil || web.Gates[2].Timeout != 10*time.Second {
		t.Errorf("got %+v", web)
	}
}

// head is enough for the rest to be what a test is about.
const head = "name: web\nhosts: {names: [h1, h2, h3]}\n"

func TestAFaultIsToldWithItsPlaceAndARemedy(t *testing.T) {
	for name, test := range map[string]struct{ text, place, key, message, remedy string }{
		"an unknown key":         {head + "rebot: never\n", "3:1", "rebot", "not known", "did you mean `reboot`?"},
		"an unknown key, nested": {head + "pods:\n  modus: [stop]\n", "4:3", "pods.modus", "not known", "`modes`"},
		"a key twice":            {head + "reboot: never\nreboot: always\n", "4:1", "reboot", "line 3", "one of the two"},
		"no YAML":                {head + "a: [\n", "", "", "", "YAML"},
		"an empty file":          {"# nothing\n", "1:1", "", "empty", "docs/pools.md"},
		"two documents":          {head + "---\n" + head, "3:1", "", "second document", "file of its own"},
		"an anchor":              {head + "patch: &p {what: all}\n", "3:8", "patch", "anchors", "write the value out"},
		"no keys":                {head + "patch: all\n", "3:8", "patch", "no keys", "what, packages"},
		"no list":                {head + "windows: {from: a}\n", "3:10", "windows", "no list", "dash"},
		"no value":               {head + "reboot:\n", "3:8", "reboot", "no value", "text"},
		"a number for a text":    {"name: 22\nhosts: {names: [h1]}\n", "1:7", "name", "no text", `"22"`},
		"a time without unit":    {head + "soak: {host: 5}\n", "3:14", "soak.host", "a time with its unit", "90s"},
		"a negative time":        {head + "min-period: -5m\n", "3:13", "min-period", "-5m", "unit"},
		"half a host":            {head + "at-once: {hosts: 1.5}\n", "3:18", "at-once.hosts", "1.5", "whole number"},
		"no name":                {"hosts: {names: [h1]}\n", "1:1", "name", "missing", "name: web"},
		"a bad name":             {"name: Web_1\nhosts: {names: [h1]}\n", "1:7", "name", "no name", "a-z"},
		"an empty pool":          {"name: web\nhosts: {names: []}\n", "2:8", "hosts", "no host", "hosts.labels"},
		"no hosts":               {"name: web\n", "1:1", "hosts", "no host", "hosts.labels"},
		"a host twice":           {"name: web\nhosts: {names: [a, b, a]}\n", "2:23", "hosts.names[2]", "already", "remove"},
		"a window without days":  {head + "windows: [{days: [], from: \"01:00\", to: \"02:00\"}]\n", "3:18", "windows[0].days", "no day", "every day"},
		"an unknown day":         {head + "windows: [{days: [mon-fry], from: \"01:00\", to: \"02:00\"}]\n", "3:19", "windows[0].days[0]", "no day", "mon-fri"},
		"an unknown time":        {head + "windows: [{from: \"25:00\", to: \"02:00\"}]\n", "3:18", "windows[0].from", "25:00", "24:00"},
		"a time that is missing": {head + "windows: [{from: \"01:00\"}]\n", "3:11", "windows[0].to", "missing", "24:00"},
		"a window of no length":  {head + "windows: [{from: \"01:00\", to: \"01:00\"}]\n", "3:31", "windows[0].to", "no length", "whole day"},
		"an unknown zone":        {head + "windows: [{from: \"01:00\", to: \"02:00\", zone: Mars/Base}]\n", "3:46", "windows[0].zone", "Mars/Base", "IANA"},
		"the machine's own zone": {head + "windows: [{from: \"01:00\", to: \"02:00\", zone: Local}]\n", "3:46", "windows[0].zone", "Local", "IANA"},
		"more left than there is": {head + "windows: [{from: \"23:30\", to: \"00:30\", min-left: 1h}]\n", "3:50", "windows[0].min-left",
			"no host would ever", "window longer"},
		"a schedule without windows": {head + "schedule: window\n", "3:11", "schedule", "no window", "manual"},
		"an unknown reboot":          {head + "reboot: maybe\n", "3:9", "reboot", "maybe", "never, when-required or always"},
		"no package":                 {head + "patch: {what: packages}\n", "3:8", "patch.packages", "no package", "security"},
		"packages for nothing":       {head + "patch: {packages: [a]}\n", "3:19", "patch.packages", "security", "packages"},
		"patched and held":           {head + "patch: {what: packages, packages: [a], hold: [a]}\n", "3:47", "patch.hold[0]", "held", "patch.hold"},
		"a pinned package":           {head + "patch: {hold: [\"a=1\"]}\n", "3:16", "patch.hold[0]", "no package", "pinned"},
		"without a drain, rebooted":  {head + "reboot: always\npatch: {without-drain: true}\n", "4:24", "patch.without-drain", "drained", "when-required"},
		"no host at once":            {head + "at-once: {hosts: 0}\n", "3:18", "at-once.hosts", "0", "1 or more"},
		"all hosts at once":          {head + "at-once: {hosts: 3}\n", "3:18", "at-once.hosts", "none for the pods", "2 or less"},
		"more canaries than hosts":   {head + "at-once: {canaries: 2}\n", "3:21", "at-once.canaries", "2 canaries", "no more"},
		"domains of nothing":         {head + "at-once: {hosts: 2, domains: 2}\n", "3:30", "at-once.domains", "none are described", "failure-domain"},
		"more domains than hosts":    {head + "at-once: {failure-domain: r, domains: 2}\n", "3:39", "at-once.domains", "2 failure domains", "no more"},
		"a budget for every host":    {head + "error-budget: {hosts: 3}\n", "3:23", "error-budget.hosts", "never stop", "2 or less"},
		"a budget below nothing":     {head + "error-budget: {moves: -1}\n", "3:23", "error-budget.moves", "less than 0", "0 or more"},
		"soak without canaries":      {head + "at-once: {canaries: 0}\nsoak: {canaries: 1m}\n", "4:18", "soak.canaries", "no canaries", "1 or more"},
		"no time to be silent":       {head + "pods: {downtime-budget: 0s}\n", "3:25", "pods.downtime-budget", "longer", "10s"},
		"no mode":                    {head + "pods: {modes: []}\n", "3:15", "pods.modes", "empty", "precopy"},
		"an unknown mode":            {head + "pods: {modes: [fast]}\n", "3:16", "pods.modes[0]", "fast", "precopy"},
		"grace for nobody":           {head + "pods: {grace: 1m}\n", "3:15", "pods.grace", "no pod is ever stopped", "stop"},
		"a group of one":             {head + "pods: {apart: [{name: g, pods: [a]}]}\n", "3:16", "pods.apart[0]", "two pods", "labels"},
		"apart in no domain":         {head + "pods: {apart: [{name: g, pods: [a, b], scope: failure-domain}]}\n", "3:47", "pods.apart[0].scope", "none are described", "at-once"},
		"two groups of a name":       {head + "pods: {apart: [{name: g, pods: [a, b]}, {name: g, pods: [c, d]}]}\n", "3:48", "pods.apart[1].name", "called", "another"},
		"a gate that asks nothing":   {head + "gates: [{name: g}]\n", "3:9", "gates[0]", "asks 0", "exactly one"},
		"a gate that asks two":       {head + "gates: [{name: g, cel: \"true\", manual: look}]\n", "3:9", "gates[0]", "asks 2", "exactly one"},
		"a manual gate without word": {head + "gates: [{name: g, manual: \"\"}]\n", "3:27", "gates[0].manual", "empty", "look at"},
		"an expression's fault":      {head + "gates: [{name: g, cel: host.stat == \"ready\"}]\n", "3:28", "gates[0].cel", "undefined field", "docs/pools.md"},
		"a quoted expression's":      {head + "gates: [{name: g, cel: \"host.stat == ''\"}]\n", "3:29", "gates[0].cel", "undefined field", "docs/pools.md"},
		"in the second line of one":  {head + "gates:\n- name: g\n  cel: |\n    host.state == \"\" &&\n      host.stat == \"\"\n", "7:11", "gates[0].cel", "undefined field", "docs"},
		"an expression of a text":    {head + "gates: [{name: g, cel: host.state}]\n", "3:24", "gates[0].cel", "bool", "docs/pools.md"},
		"a URL without host":         {head + "gates: [{name: g, http: {url: example.org}}]\n", "3:31", "gates[0].http.url", "no URL", "https://"},
		"a query without bounds":     {head + "gates: [{name: g, prometheus: {url: \"http://p\", query: up}}]\n", "3:31", "gates[0].prometheus", "any number", "below"},
		"bounds with nothing between": {head + "gates: [{name: g, prometheus: {url: \"http://p\", query: up, above: 3, below: 2}}]\n", "3:67", "gates[0].prometheus.above",
			"no number", "less than"},
		"a gate at no time":           {head + "gates: [{name: g, at: [never], cel: \"true\"}]\n", "3:24", "gates[0].at[0]", "never", "start, host or end"},
		"a hook without a program":    {head + "hooks: {start: [{command: [tell]}]}\n", "3:27", "hooks.start[0].command", "absolute", "[/usr"},
		"a hook on no host":           {head + "hooks: {end: [{command: [/bin/x], run: host}]}\n", "3:40", "hooks.end[0].run", "no host", "after-host"},
		"a fence with two ways":       {head + "fence: {command: [/x, \"{host}\"], ipmi: {user: a}}\n", "3:8", "fence", "one way", "exactly one"},
		"a fence that knows no host":  {head + "fence: {command: [/x]}\n", "3:18", "fence.command", "which host", "{host}"},
		"one address for all":         {head + "fence: {ipmi: {address: a, user: u, password-file: /p}}\n", "3:25", "fence.ipmi.address", "every host", "{host}"},
		"a password in no file":       {head + "fence: {ipmi: {address: \"{host}\", user: u}}\n", "3:15", "fence.ipmi.password-file", "missing", "controllers"},
		"an unknown event":            {head + "notify: [{url: \"http://x\", events: [born]}]\n", "3:37", "notify[0].events[0]", "born", "started"},
		"a token in a relative place": {head + "notify: [{url: \"http://x\", token-file: t}]\n", "3:40", "notify[0].token-file", "absolute", "root"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(test.text))
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("accepted, or %v", err)
			}
			if len(faults) != 1 {
				t.Fatalf("more than one fault:\n%v", err)
			}
			got := faults[0]
			if test.place != "" && fmt.Sprintf("%d:%d", got.Line, got.Column) != test.place {
				t.Errorf("at %d:%d, want %s", got.Line, got.Column, test.place)
			}
			if got.Key != test.key || !strings.Contains(got.Message, test.message) || !strings.Contains(got.Remedy, test.remedy) || got.Remedy == "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestEveryFaultOfAFileIsToldAtOnceInOrder(t *testing.T) {
	_, err := Parse("p.yaml", []byte("nam: web\nhosts: {names: [h1]}\nreboot: maybe\nsoak: {host: 5}\nwindows:\n- {from: \"1\", to: \"2\"}\n"))
	want := []string{"p.yaml:1:1: `nam`", "p.yaml:1:1: `name`", "p.yaml:3:9: `reboot`", "p.yaml:4:14: `soak.host`", "p.yaml:6:10: `windows[0].from`", "p.yaml:6:19: `windows[0].to`"}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d faults:\n%v", len(lines), err)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %d is %s, want %s", i, lines[i], want[i])
		}
	}
}

func TestAsMuchMayHaveToBeLeftAsWindowsThatTouchHaveTogether(t *testing.T) {
	p := parse(t, head+"windows: [{from: \"22:00\", to: \"24:00\", min-left: 3h}, {from: \"00:00\", to: \"04:00\"}]\n")
	if ok, why, _ := p.WindowSet().MayStart(time.Date(2026, 1, 10, 23, 0, 0, 0, time.UTC), time.Hour); !ok {
		t.Error(why)
	}
}

func TestHostsBelongByNameOrByAllLabels(t *testing.T) {
	p := parse(t, "name: web\nhosts: {names: [h1], labels: {tier: web, env: live}}\n")
	for name, test := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"h1": {nil, true}, "h2": {map[string]string{"tier": "web", "env": "live", "x": "y"}, true},
		"h3": {map[string]string{"tier": "web"}, false}, "h4": {map[string]string{"tier": "web", "env": "test"}, false}, "h5": {nil, false},
	} {
		if p.HasHost(name, test.labels) != test.want {
			t.Errorf("%s: want %v", name, test.want)
		}
	}
	named := parse(t, head)
	if named.HasHost("other", map[string]string{"tier": "web"}) {
		t.Error("a pool without labels took a host by its labels")
	}
}

func TestAFileThatIsNotThereIsNoFaultOfAPool(t *testing.T) {
	_, err := Load(t.TempDir() + "/none.yaml")
	var faults Faults
	if err == nil || errors.As(err, &faults) {
		t.Errorf("got %v", err)
	}
}

func TestDaysAreNamesAndRanges(t *testing.T) {
	for text, want := range map[string][7]bool{
		"mon": {1: true}, "fri-mon": {0: true, 1: true, 5: true, 6: true}, "mon-sun": {true, true, true, true, true, true, true}, "sun-sun": {0: true},
	} {
		if got, err := parseDays([]string{text}); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
}
