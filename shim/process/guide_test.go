package process

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestTheGuidesGatewayIsOneThatShimsTake(t *testing.T) {
	guide, err := os.ReadFile("../../docs/shim.md")
	if err != nil {
		t.Fatal(err)
	}
	orders, err := os.ReadFile("../../configs/services/orders.yaml")
	if err != nil {
		t.Fatal(err)
	}
	gateway := regexp.MustCompile("(?ms)^```yaml gateway\n(.*?)^```$").FindSubmatch(guide)
	route := regexp.MustCompile("(?ms)^```yaml route\n(.*?)^```$").FindSubmatch(guide)
	if gateway == nil || route == nil {
		t.Fatal("the guide has no gateway")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"shim.yaml": string(gateway[1]), "orders.yaml": string(route[1]) + string(orders)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := load(t.Context(), filepath.Join(dir, "shim.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Backends) != 2 || l.record.Router == nil || l.servers() != "2 backends" {
		t.Errorf("read %+v", l.Config)
	}
}

func TestTheGuidesConfigurationIsOneThatShimsTake(t *testing.T) {
	guide, err := os.ReadFile("../../docs/shim.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for kind, name := range map[string]string{"record": "greeter.yaml", "shim": "shim.yaml"} {
		found := regexp.MustCompile("(?ms)^```yaml " + kind + "\n(.*?)^```$").FindSubmatch(guide)
		if found == nil {
			t.Fatalf("the guide has no %s", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), found[1], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := load(t.Context(), filepath.Join(dir, "shim.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if l.clients[netip.MustParseAddr("10.77.128.9")] != "v1" || l.Listen[0].Port != 8080 || l.record.Service != "greeter" {
		t.Errorf("read %+v", l.Config)
	}
}
