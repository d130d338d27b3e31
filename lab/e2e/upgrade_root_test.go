//go:build root

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/lab/shop"
)

// shopPod runs a server of the shop, with a volume and a probe.
func shopPod(t *testing.T, name, host string) {
	t.Helper()
	runPod(t, name, "--image", "shop:v1", "--service", "shop", "--version", "v1", "--host", host, "-v", "data:"+shop.Dir,
		"--health-http", "8080/healthz")
}

// asks has a pod's own program ask its server.
func asks(t *testing.T, pod, method, id, body string) string {
	t.Helper()
	args := []string{"pod", "exec", pod, "--", "/shop", "ask", method, "http://127.0.0.1:8080/orders/" + id}
	if body != "" {
		args = append(args, body)
	}
	return strings.TrimSpace(do(t, args...))
}

func TestAServiceIsUpgradedWithWhatItHasStoredAndGoesBack(t *testing.T) {
	archives, err := shop.Archives(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for version, path := range archives {
		do(t, "image", "import", path, "--as", "shop:"+version, "--host", "h1")
	}
	record := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(record, []byte(shop.Record), 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, "service", "apply", record)
	t.Cleanup(func() { try(t, "service", "rm", "shop") })
	shopPod(t, "shop-0", "h1")
	shopPod(t, "shop-1", "h2")
	until(t, "the shop serves", func() bool {
		return try(t, "pod", "exec", "shop-1", "--", "/shop", "ask", "GET", "http://127.0.0.1:8080/healthz").status == 0
	})
	refuses(t, 3, []string{"pod shop-0 serves version v1"}, "service", "rm", "shop")
	if got := asks(t, "shop-0", "PUT", "7", `{"cents":5}`); got != "204" {
		t.Fatal(got)
	}
	address := pod(t, "shop-0").Spec.Addresses[0]

	do(t, "service", "upgrade", "shop", "--to", "v2", "--image", "shop:v2")
	if got := asks(t, "shop-0", "GET", "7", ""); got != `200 {"amount":5,"currency":"EUR"}` {
		t.Errorf("after the upgrade: %s", got)
	}
	if now := pod(t, "shop-0"); now.Spec.Addresses[0] != address || now.Spec.Labels["drydock/version"] != "v2" {
		t.Errorf("the pod is %v", now.Spec)
	}
	var shown struct {
		Running map[string]int `json:"running"`
	}
	if err := json.Unmarshal([]byte(do(t, "service", "show", "shop", "-o", "json")), &shown); err != nil || shown.Running["v2"] != 2 {
		t.Errorf("the service shows %v: %v", shown, err)
	}

	// What v1 cannot know has no way back: the pod stays what it is, with its state.
	asks(t, "shop-1", "PUT", "8", `{"amount":9,"currency":"CHF"}`)
	got := try(t, "service", "upgrade", "shop", "--to", "v1", "--image", "shop:v1")
	if got.status != 1 || !strings.Contains(got.err, "order 8 is in CHF, which v1 does not know") {
		t.Errorf("%s", got)
	}
	if got := asks(t, "shop-0", "GET", "7", ""); got != `200 {"cents":5}` {
		t.Errorf("after the way back: %s", got)
	}
	if got := asks(t, "shop-1", "GET", "8", ""); got != `200 {"amount":9,"currency":"CHF"}` {
		t.Errorf("after the way back that failed: %s", got)
	}
	var listed []struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(do(t, "upgrade", "ls", "--service", "shop", "-o", "json")), &listed); err != nil || len(listed) != 2 {
		t.Fatal(listed, err)
	}
	do(t, "upgrade", "abort", listed[0].ID)
	until(t, "the upgrade's end", func() bool {
		return strings.Contains(do(t, "upgrade", "show", listed[0].ID), "aborted")
	})
}
