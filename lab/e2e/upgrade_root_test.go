//go:build root

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"drydock/lab"
	"drydock/lab/load"
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

// openShop applies the shop's record, and runs servers of its first version, each on another host.
func openShop(t *testing.T, record string, names ...string) {
	t.Helper()
	archives, err := shop.Archives(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for version, path := range archives {
		do(t, "image", "import", path, "--as", "shop:"+version, "--host", "h1")
	}
	applyShop(t, record)
	t.Cleanup(func() {
		endUpgrades(t)
		try(t, "service", "rm", "shop")
	})
	for i, name := range names {
		shopPod(t, name, fmt.Sprint("h", i+1))
	}
	for _, name := range names {
		until(t, name+" serves", func() bool {
			return try(t, "pod", "exec", name, "--", "/shop", "ask", "GET", "http://127.0.0.1:8080/healthz").status == 0
		})
	}
}

// endUpgrades ends those that a test has left where it failed, so that the next one is not refused for them.
func endUpgrades(t *testing.T) {
	t.Helper()
	var listed []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(try(t, "upgrade", "ls", "--service", "shop", "-o", "json").out), &listed); err != nil {
		t.Log("list upgrades:", err)
	}
	for _, u := range listed {
		if over := func() bool {
			state := try(t, "upgrade", "show", u.ID).out
			return strings.Contains(state, "finished") || strings.Contains(state, "aborted")
		}; !over() {
			try(t, "upgrade", "abort", u.ID)
			until(t, "the end of upgrade "+u.ID, over)
		}
	}
}

func applyShop(t *testing.T, record string) {
	t.Helper()
	path, err := shop.WriteRecord(t.TempDir(), record)
	if err != nil {
		t.Fatal(err)
	}
	do(t, "service", "apply", path)
}

// orders calls a pod of the shop from outside, as a client of a version.
func orders(t *testing.T, name, version, method, id, body string) string {
	t.Helper()
	prefix, err := netip.ParsePrefix(pod(t, name).Spec.Addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: load.Dialer{Netns: shared.NetNS(lab.ClientNode)}.DialContext, DisableKeepAlives: true}
	return callShop(&http.Client{Transport: transport}, fmt.Sprintf("http://%s:%d", prefix.Addr(), shop.Port), version, method, id, body)
}

// callShop calls the shop as a client of a version, and returns what was answered, or why nothing was.
func callShop(client *http.Client, front, version, method, id, body string) string {
	r, err := http.NewRequestWithContext(context.Background(), method, front+"/orders/"+id, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	r.Header = http.Header{"X-Shop-Version": {version}, "Content-Type": {"application/json"}}
	res, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	data, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", string(data)))
}

func TestAServiceIsUpgradedWithWhatItHasStoredAndGoesBack(t *testing.T) {
	openShop(t, shop.Record, "shop-0", "shop-1")
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
	if err := json.Unmarshal([]byte(do(t, "upgrade", "ls", "--service", "shop", "-o", "json")), &listed); err != nil || len(listed) == 0 {
		t.Fatal(listed, err)
	}
	do(t, "upgrade", "abort", listed[0].ID)
	until(t, "the upgrade's end", func() bool {
		return strings.Contains(do(t, "upgrade", "show", listed[0].ID), "aborted")
	})
}

func TestClientsOfEveryVersionUseServersOfEveryOtherWhileAServiceIsUpgraded(t *testing.T) {
	openShop(t, shop.Record, "till-0", "till-1")
	is := func(pod, version, method, id, body, want string) {
		t.Helper()
		if got := orders(t, pod, version, method, id, body); got != want {
			t.Errorf("%s order %s of %s as %s: %s, not %s", method, id, pod, version, got, want)
		}
	}
	shimless := func() bool { return pod(t, "till-0").Spec.Shim == nil && pod(t, "till-1").Spec.Shim == nil }
	if !shimless() {
		t.Error("pods have shims, and nobody needs them")
	}
	is("till-0", "v1", "PUT", "1", `{"cents":5}`, "204")
	is("till-1", "v1", "PUT", "1", `{"cents":6}`, "204")

	do(t, "service", "upgrade", "shop", "--to", "v2", "--image", "shop:v2", "--pod", "till-0")
	is("till-0", "v1", "GET", "1", "", `200 {"cents":5}`)
	is("till-0", "v2", "GET", "1", "", `200 {"amount":5,"currency":"EUR"}`)
	is("till-1", "v2", "PUT", "2", `{"amount":7,"currency":"EUR"}`, "204")
	is("till-1", "v1", "GET", "2", "", `200 {"cents":7}`)

	do(t, "service", "upgrade", "shop", "--to", "v2", "--image", "shop:v2")
	do(t, "service", "upgrade", "shop", "--to", "v3", "--image", "shop:v3", "--pod", "till-0")
	is("till-0", "v3", "PUT", "3", `{"amount":8,"currency":"EUR","note":"gift"}`, "204")
	is("till-0", "v1", "GET", "3", "", `200 {"cents":8}`)
	is("till-1", "v3", "PUT", "4", `{"amount":9,"currency":"CHF","note":"wrap it"}`, "204")
	is("till-1", "v3", "GET", "4", "", `200 {"amount":9,"currency":"CHF","note":"wrap it"}`)
	if got := asks(t, "till-1", "GET", "4", ""); got != `200 {"amount":9,"currency":"CHF"}` {
		t.Errorf("the server that knows no notes has %s", got)
	}

	// What its shim has kept is the server's own after the upgrade.
	do(t, "service", "upgrade", "shop", "--to", "v3", "--image", "shop:v3")
	if got := asks(t, "till-1", "GET", "4", ""); got != `200 {"amount":9,"currency":"CHF","note":"wrap it"}` {
		t.Errorf("the server that knows notes has %s", got)
	}
	for name, want := range map[string]string{"till-0": `200 {"cents":5}`, "till-1": `200 {"cents":6}`} {
		is(name, "v1", "GET", "1", "", want)
	}
	applyShop(t, strings.Replace(shop.Record, "default: v1", "default: v3", 1))
	until(t, "nobody needs a shim", shimless)
	is("till-1", "v3", "GET", "4", "", `200 {"amount":9,"currency":"CHF","note":"wrap it"}`)
}
