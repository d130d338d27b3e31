package stack

import "testing"

func TestVersionsAreComparedByNumber(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"6.12.94", "6.18", true}, {"6.18", "6.12.94", false}, {"6.9", "6.10", true}, {"4.2.1", "4.2", false}, {"4.2", "4.2.1", false},
		{"6.18.0-1-amd64", "6.18.0-2-amd64", true}, {"", "4.2", false}, {"unknown", "4.2", false},
	} {
		if got := Older(c.a, c.b); got != c.want {
			t.Errorf("Older(%q, %q) is %t", c.a, c.b, got)
		}
	}
}

func TestEverythingThatIsOlderThereIsNamedWithARemedy(t *testing.T) {
	here := Stack{Kernel: "6.12.1", CRIU: "4.2", Arch: "amd64", Features: []string{"avx", "avx2", "sse"}}
	for _, o := range Obstacles(here, here) {
		t.Errorf("a host cannot hand over to its like: %v", o)
	}
	newer := Stack{Kernel: "6.18.2", CRIU: "4.3", Arch: "amd64", Features: []string{"avx", "avx2", "avx512", "sse"}}
	if found := Obstacles(here, newer); len(found) != 0 {
		t.Errorf("an older host cannot hand over to a newer one: %v", found)
	}
	found := Obstacles(newer, here)
	if len(found) != 3 || found[2].Reason != "the processor lacks [avx512], which the pod may use" {
		t.Errorf("got %v", found)
	}
	for _, o := range found {
		if o.Remedy == "" {
			t.Errorf("no remedy for %q", o.Reason)
		}
	}
	if found := Obstacles(here, Stack{Kernel: "6.12.1", CRIU: "4.2", Arch: "arm64", Features: here.Features}); len(found) != 1 {
		t.Errorf("got %v", found)
	}
}
