package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"drydock/internal/config"
	"drydock/orchestrator/pool"
)

func TestTheMirrorIsTheMachinesOwnOrDebians(t *testing.T) {
	debian := mirror{archive: "http://deb.debian.org/debian", security: "http://deb.debian.org/debian-security"}
	for name, c := range map[string]struct {
		targets string
		want    mirror
	}{
		"nothing known": {"", debian},
		"own mirrors": {
			"Debian|http://mirror.example/debian/\nDebian|http://second.example/debian/\nDebian-Security|http://mirror.example/security/\n",
			mirror{"http://mirror.example/debian", "http://mirror.example/security"},
		},
		"others and media": {"Node|https://node.example/\nDebian|cdrom://x/\n", debian},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseMirrors(c.targets); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestARootIsNamedByWhatIsInItAndNotByItsMirror(t *testing.T) {
	base := newRecipe(nil)
	moved := base
	moved.mirror = mirror{"http://a.example", "http://b.example"}
	if base.path() != moved.path() {
		t.Error("another mirror, another root")
	}
	if base.path() == newRecipe([]string{"podman"}).path() {
		t.Error("another package, the same root")
	}
	if base.path() != newRecipe([]string{"runc"}).path() {
		t.Error("a package named twice makes another root")
	}
}

func TestOptionsAreRefusedWithEveryReason(t *testing.T) {
	_, err := Options{Name: "No/Good", Hosts: 99, Controllers: 9, Driver: "cloud", HostServices: []Service{{Name: "a/b"}}}.withDefaults()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"No/Good"`, "99 hosts", "9 controllers", "Join is needed", `"cloud"`, `"a/b"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestANameThatCouldLeaveTheLabsDirectoriesIsRefused(t *testing.T) {
	for _, name := range []string{"", "..", "a/b", "-a", "a-", "A", strings.Repeat("a", 21)} {
		if _, err := Open(name); err == nil || strings.Contains(err.Error(), "drydock lab up") {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestTheAgentsConfigurationSaysWhereItIs(t *testing.T) {
	l := &Lab{name: "x", rec: record{Hosts: []string{"h1", "h2"}}}
	var got map[string]any
	if err := yaml.Unmarshal([]byte(l.agentConfig("h2")), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"name": "h2", "listen": "10.77.0.12:7444", "controller": []any{"https://10.77.0.2:7443"},
		"data-dir": "/var/lib/drydock", "run-dir": "/run/drydock",
		"containerd":    map[string]any{"socket": "/run/containerd/containerd.sock"},
		"cgroup-parent": "/drydock-lab/x/h2", "network": map[string]any{"bridge": "br0"},
		"join":     map[string]any{"token-file": "/etc/drydock/token"},
		"packages": map[string]any{"refresh-interval": "0s"},
		"reboot":   map[string]any{"command": []any{"/usr/bin/kill", "-HUP", "1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryNodeOfALabHasAnAddressOfItsOwn(t *testing.T) {
	l := &Lab{name: "x", rec: record{Hosts: []string{"h1", "h2"}, Controllers: maxControllers, Updates: Updates{Own: true}}}
	taken := map[string]string{}
	for _, node := range append(l.nodes(), ClientNode) {
		if other := taken[l.Address(node)]; other != "" {
			t.Errorf("%s and %s both have %s", node, other, l.Address(node))
		}
		taken[l.Address(node)] = node
	}
	if len(taken) != 2+maxControllers+2 {
		t.Errorf("nodes are %v", taken)
	}
}

func TestControllersBehindTheFirstJoinAllOthersAndHostsBeginWithDifferentOnes(t *testing.T) {
	l := &Lab{name: "x", rec: record{Hosts: []string{"h1", "h2", "h3", "h4"}, Controllers: 3}}
	first, second, third := "https://10.77.0.2:7443", "https://10.77.0.4:7443", "https://10.77.0.5:7443"
	for node, others := range map[string][]string{"ctl": nil, "ctl2": {first, third}, "ctl3": {first, second}} {
		file := filepath.Join(t.TempDir(), "controller.yaml")
		if err := os.WriteFile(file, []byte(l.controllerConfig(node, Options{})), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.LoadController(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(others, cfg.Join.Controllers); diff != "" || cfg.Name != node || cfg.Etcd.Peer != l.Address(node)+":7442" {
			t.Errorf("%s: %+v %s", node, cfg, diff)
		}
	}
	for host, want := range map[string][]string{
		"h1": {first, second, third}, "h2": {second, third, first}, "h3": {third, first, second}, "h4": {first, second, third},
	} {
		if diff := cmp.Diff(want, l.controllerURLs(host)); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
	}
	if l.rec.Controllers = 1; l.storeConfig("ctl") != "" {
		t.Error("a single controller's store is not its own")
	}
}

func TestTheContextOfALabNamesAllControllers(t *testing.T) {
	l := &Lab{name: "x", rec: record{Controllers: 2}}
	if got, want := l.Context().Server, "unix:///run/drydock/lab/x/controller.sock,unix:///run/drydock/lab/x/ctl2.sock"; got != want {
		t.Errorf("got %s", got)
	}
	if l.rec.Controllers = 0; l.Context().Server != "unix://"+l.Socket() {
		t.Errorf("a lab of before: %s", l.Context().Server)
	}
}

func TestTheLabsPoolIsTakenAndHasEveryHost(t *testing.T) {
	for driver, fenced := range map[string]bool{"": false, DriverVM: true} {
		l := &Lab{name: "x", rec: record{Hosts: []string{"h1", "h2"}, Driver: driver}}
		p, err := pool.Parse("lab.yaml", []byte(l.poolConfig()))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"h1", "h2"}, p.Hosts.Names); diff != "" || p.Name != Pool {
			t.Error(p.Name, diff)
		}
		if (p.Fence != nil) != fenced {
			t.Errorf("hosts of driver %q are fenced by %v", driver, p.Fence)
		}
	}
}

func TestARecordedProcessIsNotAnotherOneWithItsPID(t *testing.T) {
	self, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !self.alive() {
		t.Error("this process is not alive")
	}
	other := self
	other.Start++
	if other.alive() {
		t.Error("another start, the same process")
	}
	other = self
	other.Boot = "before"
	if other.alive() {
		t.Error("another boot of the machine, the same process")
	}
	if (process{}).alive() {
		t.Error("no process is alive")
	}
}

func TestMountPointsWithBlanksAreRead(t *testing.T) {
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("got %q", got)
	}
}
