package process

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

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
