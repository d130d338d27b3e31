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
	if len(found) != 3 || found[2].Reason != "the processor lacks avx512, which the pod may use" {
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

func TestPodsGoBackOnlyBetweenKernelsWhereItWasTried(t *testing.T) {
	for _, c := range []struct {
		from, to string
		refused  string
	}{
		{"6.12.94+deb13-cloud-amd64", "6.12.90+deb13-cloud-amd64", ""},
		{"7.2.12+deb13-cloud-amd64", "6.12.94+deb13-cloud-amd64", ""},
		{"7.2.12", "6.18.1", "kernel 6.18.1 is older than the source's 7.2.12, and moves from 7.2 to 6.18 are not known to work"},
		{"6.18.1", "6.1.0", "kernel 6.1.0 is older than the source's 6.18.1, and moves from 6.18 to 6.1 are not known to work"},
	} {
		var reason string
		for _, o := range Obstacles(Stack{Kernel: c.from}, Stack{Kernel: c.to}) {
			reason = o.Reason
		}
		if reason != c.refused {
			t.Errorf("%s to %s: %q", c.from, c.to, reason)
		}
	}
}

func TestWhatOnlyAKernelUsesOfAProcessorKeepsNoPodAway(t *testing.T) {
	from := Stack{Features: []string{"sse", "pti", "ibrs_enhanced", "tsc_known_freq", "vmx", "avx512f", "a-feature-of-tomorrow"}}
	found := Obstacles(from, Stack{Features: []string{"sse"}})
	if len(found) != 1 || found[0].Reason != "the processor lacks avx512f, a-feature-of-tomorrow, which the pod may use" {
		t.Errorf("got %v", found)
	}
}
