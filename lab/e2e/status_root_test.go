//go:build root

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// lacking is what `drydock status h1` says.
func lacking(t *testing.T) (s struct {
	Status struct {
		Packages struct {
			Manager string
			Sources []struct{ Problems []struct{ Fault string } }
		}
		Reboot struct {
			Required bool
			Reasons  []struct{ Cause, Text string }
		}
	}
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(do(t, "status", "h1", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatAHostLacksIsSeenAtTheControllerWithoutAsking(t *testing.T) {
	until(t, "the host's status is at the controller", func() bool { return lacking(t).Status.Packages.Manager == "apt" })
	s := lacking(t).Status
	if len(s.Packages.Sources) == 0 || len(s.Packages.Sources[0].Problems) == 0 || s.Packages.Sources[0].Problems[0].Fault != "METADATA_FAULT_MISSING" {
		t.Errorf("a host's root has no package lists, and a lab's host fetches none by itself: %+v", s.Packages)
	}
	if s.Reboot.Required {
		t.Errorf("a new host needs a reboot: %+v", s.Reboot)
	}
	in := func(script string) { do(t, "lab", "exec", "--name", labName, "h1", "--", "sh", "-c", script) }
	in("echo '*** System restart required ***' > /run/reboot-required")
	until(t, "the reboot is seen", func() bool { return lacking(t).Status.Reboot.Required })
	if got := do(t, "status"); !strings.Contains(got, "host h1 needs a reboot: System restart required") {
		t.Error(got)
	}
	in("rm /run/reboot-required")
	until(t, "the reboot is no longer needed", func() bool { return !lacking(t).Status.Reboot.Required })
}
