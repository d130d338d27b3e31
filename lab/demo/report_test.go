package demo

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/load"

	"github.com/google/go-cmp/cmp"
)

// patched is a run in which all went well.
func patched() *patching {
	p := &patching{
		versions: map[string]map[string]string{"h1": {"tool": "1"}}, boots: map[string]string{"h1": "one"},
		rollout: &drydockv1.Rollout{State: drydockv1.RolloutState_ROLLOUT_STATE_FINISHED},
	}
	for _, host := range route {
		p.report.Hosts = append(p.report.Hosts, PatchedHost{Name: host, Packages: []PatchedPackage{{"tool", "1", "2"}}, Reboot: "simulated"})
	}
	for _, a := range patchedApps() {
		p.pods = append(p.pods, &traveller{app: a})
		p.report.Moves = append(p.report.Moves, PatchMove{a.name, "h1", "h2", 200})
	}
	p.report.add(findings{Result: load.Result{ConnectionsBefore: 2, ConnectionsAfter: 2, AckedWrites: 10}, requests: 12})
	return p
}

func TestAPatchThatNobodyNoticedPasses(t *testing.T) {
	if err := patched().verdict(); err != nil {
		t.Error(err)
	}
	if pods := len(patchedApps()); pods != 2*len(route) {
		t.Errorf("there are %d pods", pods)
	}
}

func TestWhateverAClientNoticesOrAHostLacksFailsThePatch(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(*patching)
		says string
	}{
		{"an error", func(p *patching) { p.report.add(findings{Result: load.Result{Errors: 1}}) }, "clients saw 1 errors"},
		{"a write", func(p *patching) { p.report.add(findings{Result: load.Result{AckedWritesLost: 2}}) }, "clients saw 2 errors"},
		{"a connection", func(p *patching) { p.report.add(findings{Result: load.Result{ConnectionsBefore: 1}}) }, "clients saw 1 errors"},
		{"a transaction", func(p *patching) { p.report.add(findings{failedTransactions: 3}) }, "3 failed transactions"},
		{"no client", func(p *patching) { p.report.ClientRequests = 0 }, "no client asked for anything"},
		{"no package", func(p *patching) { p.report.Hosts[1].Packages = nil }, "h2 was given no package"},
		{"no host", func(p *patching) { p.report.Hosts = p.report.Hosts[:2] }, "h3 was given no package"},
		{"no move", func(p *patching) { p.report.Moves = p.report.Moves[1:] }, "redis was on a host that was emptied, and did not move"},
		{"a rollout that stopped", func(p *patching) {
			p.rollout = &drydockv1.Rollout{State: drydockv1.RolloutState_ROLLOUT_STATE_STOPPED, Reason: "h2 does not come back"}
		}, "h2 does not come back"},
		{"no rollout", func(p *patching) { p.rollout = nil }, "is not finished"},
		{"another version", func(p *patching) { p.bookHost(pinned("2", "simulated"), map[string]string{"tool": "1"}, "two") }, `tool was pinned to 2, and dpkg has "1"`},
		{"a boot that did not end", func(p *patching) { p.bookHost(pinned("2", "simulated"), map[string]string{"tool": "2"}, "one") }, "reboot is reported as simulated"},
		{"a boot that nobody told of", func(p *patching) { p.bookHost(pinned("2", ""), map[string]string{"tool": "2"}, "two") }, "reboot is reported as none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := patched()
			c.harm(p)
			if err := p.verdict(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func pinned(version, reboot string) *drydockv1.RolloutHost {
	return &drydockv1.RolloutHost{
		Host: "h1", RebootKind: reboot, Patch: &drydockv1.Patch{Packages: []*drydockv1.PinnedPackage{{Name: "tool", From: "1", To: version}}},
	}
}

func TestVersionsAreThoseOfDpkg(t *testing.T) {
	p := patched()
	p.report.Hosts = nil
	p.bookHost(pinned("2", "simulated"), map[string]string{"tool": "2"}, "two")
	want := []PatchedHost{{Name: "h1", Packages: []PatchedPackage{{"tool", "1", "2"}}, Reboot: "simulated"}}
	if diff := cmp.Diff(want, p.report.Hosts); diff != "" || len(p.faults) > 0 {
		t.Error(diff, p.faults)
	}
}

func TestTheReportOfAPatchHasTheFieldsThatAreAskedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo-patch.json")
	r := patched().report
	r.Hosts, r.Moves = r.Hosts[:1], r.Moves[:1]
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"hosts": []any{map[string]any{
			"name": "h1", "reboot": "simulated", "packages": []any{map[string]any{"name": "tool", "from": "1", "to": "2"}},
		}},
		"moves":           []any{map[string]any{"pod": "redis", "from": "h1", "to": "h2", "blackout_ms": 200.0}},
		"client_requests": 12.0, "client_errors": 0.0, "failed_transactions": 0.0, "duration_s": 0.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
