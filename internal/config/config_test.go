package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTheDefaultsAreValid(t *testing.T) {
	got, err := LoadController("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(controllerDefaults(), got); diff != "" {
		t.Error(diff)
	}
}

func TestFlagsWinOverTheEnvironmentAndThatOverTheFile(t *testing.T) {
	file := write(t, "name: from-file\nlisten: 10.0.0.1:1\ndata-dir: /file\nlog: {level: warn}\ntimings: {report-interval: 1s}\n")
	t.Setenv("DRYDOCK_LISTEN", "10.0.0.2:2")
	t.Setenv("DRYDOCK_DATA_DIR", "/env")
	t.Setenv("DRYDOCK_ETCD_ENDPOINTS", "http://a:1,http://b:2")
	flags := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	flags.String("data-dir", "/flag-default", "")
	flags.String("log-format", "text", "")
	flags.String("name", "not-set", "")
	if err := flags.Parse([]string{"--data-dir=/flag", "--log-format=json"}); err != nil {
		t.Fatal(err)
	}
	got, err := LoadController(file, flags)
	if err != nil {
		t.Fatal(err)
	}
	want := controllerDefaults()
	want.Name, want.Listen, want.DataDir = "from-file", "10.0.0.2:2", "/flag"
	want.Log = Log{Level: "warn", Format: "json"}
	want.Etcd.Endpoints = []string{"http://a:1", "http://b:2"}
	want.Timings.ReportInterval = time.Second
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnAgentsFileIsReadWhole(t *testing.T) {
	file := write(t, `
name: h1
listen: 10.77.0.11:7441
controller: [https://10.77.0.1:7440]
data-dir: /var/lib/drydock
run-dir: /run/drydock
containerd: {socket: /run/containerd/containerd.sock}
cgroup-parent: /drydock-lab/h1
network: {bridge: br0}
join: {token-file: /etc/drydock/token}
packages: {refresh-interval: 0s, max-age: 24h}
migration: {silence: 30s}
log: {level: debug, format: json}
`)
	got, err := LoadAgent(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Agent{
		Name: "h1", Listen: "10.77.0.11:7441", Controllers: []string{"https://10.77.0.1:7440"},
		DataDir: "/var/lib/drydock", RunDir: "/run/drydock",
		Containerd: Containerd{Socket: "/run/containerd/containerd.sock"}, CgroupParent: "/drydock-lab/h1",
		Network: Network{Bridge: "br0"}, Join: Join{TokenFile: "/etc/drydock/token"},
		Packages:  Packages{MaxAge: 24 * time.Hour},
		Log:       Log{Level: "debug", Format: "json"},
		Migration: Migration{Silence: 30 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsWrongIsNamedWithARemedy(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		env  map[string]string
		want []string
	}{
		"an unknown key":            {file: "data-dirr: /x\n", want: []string{"config.yaml", `"data-dirr"`, `"data-dir"`}},
		"an unknown nested key":     {file: "log: {levle: info}\n", want: []string{`"log.levle"`, `"log.level"`}},
		"several unknown keys":      {file: "a: 1\nlisen: x\n", want: []string{`"a"`, `"lisen"`, `"listen"`}},
		"a misspelt variable":       {env: map[string]string{"DRYDOCK_LISTN": ":1"}, want: []string{"DRYDOCK_LISTN", "DRYDOCK_LISTEN"}},
		"a wrong type":              {file: "name: [a]\n", want: []string{"name"}},
		"a duration without a unit": {file: "timings: {report-interval: 2}\n", want: []string{"no unit", "2s"}},
		"no YAML":                   {file: "{{{\n", want: []string{"config.yaml"}},
		"a bad network":             {file: "pod-cidr: 10.0.0.1/8\n", want: []string{"pod-cidr", "10.77.128.0/17"}},
		"a gateway elsewhere":       {file: "gateway: 192.168.0.1\n", want: []string{"gateway", "10.77.128.0/17"}},
		"a relative path":           {file: "data-dir: x\n", want: []string{"data-dir", "absolute"}},
		"a bad name":                {file: "name: A_b\n", want: []string{"name", "a-z"}},
		"impatience":                {file: "timings: {unreachable-after: 1s}\n", want: []string{"unreachable-after", "twice"}},
		"an unknown network":        {file: "network: {kind: geneve}\n", want: []string{"network.kind", "auto, bridge or vxlan"}},
		"a VNI of 25 bits":          {file: "network: {vni: 16777216}\n", want: []string{"network.vni", "16777215"}},
		"an MTU in kilobytes":       {file: "network: {mtu: 9}\n", want: []string{"network.mtu", "1500"}},
		"a bad level":               {file: "log: {level: loud}\n", want: []string{"log.level", "debug"}},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			_, err := LoadController(write(t, test.file), nil)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q: %v", want, err)
				}
			}
		})
	}
}

func TestAnAgentWithoutAddressOrControllerIsRefused(t *testing.T) {
	_, err := LoadAgent(write(t, "name: h1\nlisten: :7441\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "`listen`") || !strings.Contains(err.Error(), "`controller`") {
		t.Fatalf("got %v", err)
	}
}

func TestTheRebootsCommandIsNamedByItsAbsolutePath(t *testing.T) {
	const rest = "name: h1\nlisten: 10.77.0.11:7441\ncontroller: [https://10.77.0.1:7440]\n"
	got, err := LoadAgent(write(t, rest+"reboot: {command: [/sbin/reboot, now]}\n"), nil)
	if diff := cmp.Diff([]string{"/sbin/reboot", "now"}, got.Reboot.Command); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := LoadAgent(write(t, rest+"reboot: {command: [reboot]}\n"), nil); err == nil || !strings.Contains(err.Error(), "`reboot.command`") {
		t.Errorf("got %v", err)
	}
}

func TestTheKeysOfLabelsAreTheOperators(t *testing.T) {
	file := "name: h1\nlisten: 10.77.0.11:7441\ncontroller: [https://10.77.0.1:7440]\nlabels: "
	got, err := LoadAgent(write(t, file+"{example.org/Zone: a, rack: 7, tier: ''}\n"), nil)
	if diff := cmp.Diff(map[string]string{"example.org/Zone": "a", "rack": "7", "tier": ""}, got.Labels); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, labels := range []string{"rack", "[rack]", "{'': r1}", "{a: 'b c'}"} {
		if _, err := LoadAgent(write(t, file+labels+"\n"), nil); err == nil || !strings.Contains(err.Error(), "labels") {
			t.Errorf("labels %s: %v", labels, err)
		}
	}
}

func TestVariablesOfOthersAreLeftAlone(t *testing.T) {
	t.Setenv("DRYDOCK_CONTEXT", "lab")
	if _, err := LoadController("", nil); err != nil {
		t.Fatal(err)
	}
}
