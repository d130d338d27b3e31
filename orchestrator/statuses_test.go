package orchestrator

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/version"
)

func TestAHostsStatusIsAskedForOnlyWhenItIsAnother(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	report := func(digest string, status *drydockv1.HostStatus) bool {
		response, err := h.coord.Report(t.Context(), connect.NewRequest(&drydockv1.ReportRequest{
			BootId: h.boot, Address: h.address, Info: &drydockv1.HostInfo{Api: version.API}, StatusDigest: digest, Status: status,
		}))
		l.must(err)
		return response.Msg.GetWantStatus()
	}
	kernel := func() string {
		response, err := l.admin.GetHostStatus(t.Context(), connect.NewRequest(&drydockv1.GetHostStatusRequest{Name: "h1"}))
		l.must(err)
		return response.Msg.GetStatus().GetKernel().GetRunning()
	}
	if report("", nil) || kernel() != "" {
		t.Error("a status is wanted of a host that has none yet")
	}
	if !report("one", nil) {
		t.Error("the first status is not wanted")
	}
	if report("one", &drydockv1.HostStatus{Kernel: &drydockv1.KernelStatus{Running: "6.12"}}) || report("one", nil) || kernel() != "6.12" {
		t.Error("a status is wanted again, or not kept:", kernel())
	}
	if !report("two", nil) || kernel() != "6.12" {
		t.Error("another status is not wanted")
	}
	_, err := l.admin.GetHostStatus(t.Context(), connect.NewRequest(&drydockv1.GetHostStatusRequest{Name: "h9"}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
}

// metricsOf is what a controller tells Prometheus.
func (l *lab) metricsOf(c *Controller) string {
	l.Helper()
	server := httptest.NewServer(c.metrics())
	defer server.Close()
	response, err := http.Get(server.URL)
	l.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	l.must(err)
	return string(text)
}

func TestAControllerThatDoesNotLeadTellsPrometheusNoMoreThanThat(t *testing.T) {
	l := newLab(t)
	l.join("h1")
	for _, line := range []string{"drydock_leader 1", `drydock_hosts{state="ready"} 1`, `drydock_controllers{state="leads"} 1`, "drydock_pool_faults 0"} {
		l.eventually(line, func() bool { return strings.Contains(l.metricsOf(l.Controller), line) })
	}
	follower := newController(l.settings(), slog.New(slog.DiscardHandler), l.store, l.ca, l.agents.keeper)
	var told []string
	for line := range strings.Lines(l.metricsOf(follower)) {
		if !strings.HasPrefix(line, "#") {
			told = append(told, strings.TrimSpace(line))
		}
	}
	if want := []string{"drydock_leader 0", "drydock_pool_faults 0"}; !slices.Equal(told, want) {
		t.Errorf("it tells %q", told)
	}
}

func TestWhatHostsLackIsInTheMetrics(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	h.mu.Lock()
	h.summary = &drydockv1.StatusSummary{
		Updates: 5, SecurityUpdates: 2, BlockedUpdates: 1, RebootRequired: true, RebootCauses: map[string]int32{"kernel": 1},
		Problems: []*drydockv1.Refusal{{Reason: "x"}}, Faults: map[string]int32{"expired": 1}, Unknown: map[string]string{"processes": "x"},
		StaleProcesses: 4, StaleInPods: 1, MetadataConfirmed: timestamppb.Now(), Collected: timestamppb.Now(),
	}
	h.mu.Unlock()
	l.eventually("the host's summary is shown", func() bool {
		response, err := l.admin.GetHost(t.Context(), connect.NewRequest(&drydockv1.GetHostRequest{Name: "h1"}))
		return err == nil && response.Msg.GetHost().GetSummary().GetUpdates() == 5
	})
	text := l.metricsOf(l.Controller)
	for _, line := range []string{
		`drydock_host_updates{class="blocked",host="h1"} 1`, `drydock_host_updates{class="other",host="h1"} 3`, `drydock_host_updates{class="security",host="h1"} 2`,
		`drydock_host_reboot_required{host="h1"} 1`, `drydock_host_reboot_reasons{cause="kernel",host="h1"} 1`,
		`drydock_host_metadata_faults{fault="expired",host="h1"} 1`, `drydock_host_package_problems{host="h1"} 1`,
		`drydock_host_stale_processes{host="h1",in="host"} 3`, `drydock_host_stale_processes{host="h1",in="pods"} 1`,
		`drydock_host_status_unknown{host="h1",part="processes"} 1`, `drydock_host_metadata_age_seconds{host="h1"} `, `drydock_host_status_age_seconds{host="h1"} `,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}
