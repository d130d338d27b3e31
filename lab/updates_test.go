package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUpdatesAreNamedByWhereTheyComeFrom(t *testing.T) {
	for list, want := range map[string]Updates{
		"none": {}, "mirror": {Mirror: true}, "own": {Own: true}, "mirror,own": {Mirror: true, Own: true},
	} {
		if got, err := ParseUpdates(list); err != nil || got != want || got.Pending() != (list != "none") {
			t.Errorf("%s: got %+v, %v", list, got, err)
		}
	}
	for _, list := range []string{"", "some", "none,own", "mirror,"} {
		if _, err := ParseUpdates(list); err == nil || !strings.Contains(err.Error(), "use none, mirror, own, or mirror,own") {
			t.Errorf("%q: got %v", list, err)
		}
	}
}

func TestEverySourceOfAHostIsSignedAndReachedThroughTheProxy(t *testing.T) {
	m := mirror{archive: "http://mirror.example/debian", security: "https://mirror.example/security"}
	got := aptFiles(Updates{Mirror: true, Own: true}, m, "a key")
	want := map[string]string{
		"/etc/apt/sources.list": `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian trixie main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/security trixie-security main
deb [signed-by=/etc/apt/keyrings/drydock-lab.asc] http://10.77.0.3:3142/drydock lab-security main
`,
		"/etc/apt/keyrings/drydock-lab.asc": "a key",
		"/etc/apt/apt.conf.d/99drydock-lab": `Acquire::http::Proxy "http://10.77.0.3:3142";
Acquire::http::Proxy::10.77.0.3 "DIRECT";
Acquire::Languages "none";
`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAMirrorThatTheProxyCannotAskIsRefused(t *testing.T) {
	for mirror, refused := range map[string]bool{
		"http://mirror.example/debian": false, "https://mirror.example/debian": false, "http://mirror.example:80/debian": false,
		"http://mirror.example:8080/debian": true,
	} {
		if err := reachable(mirror); (err != nil) != refused {
			t.Errorf("%s: got %v", mirror, err)
		}
	}
}

func TestAHostWithUpdatesPendingIsMadeWithoutTheSecurityArchive(t *testing.T) {
	r := newRecipe(nil)
	r.mirror = mirror{"http://mirror.example/debian", "http://mirror.example/security"}
	current := r.arguments("root", "preferences")
	r.kind = behindRoot
	behind := r.arguments("root", "preferences")
	security := "deb http://mirror.example/security trixie-security main"
	if !strings.Contains(strings.Join(current, "\n"), security) || strings.Contains(strings.Join(behind, "\n"), security) {
		t.Errorf("current is made by\n%v\nbehind by\n%v", current, behind)
	}
	if newRecipe(nil).path() == r.path() || newProxyRecipe().path() == r.path() {
		t.Error("roots of two kinds have one name")
	}
}
