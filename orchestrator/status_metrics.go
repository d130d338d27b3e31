package orchestrator

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	drydockv1 "drydock/api/drydock/v1"
)

// statusCollector shows what every host lacks, from the summaries that hosts report.
type statusCollector struct {
	c *Controller

	updates, reboot, rebootReasons, faults, problems, stale, unknown, metadataAge, age *prometheus.Desc
}

func newStatusCollector(c *Controller) *statusCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("drydock_host_"+name, help, append([]string{"host"}, labels...), nil)
	}
	return &statusCollector{
		c:             c,
		updates:       desc("updates", "Pending package updates by class: security or other; blocked are those among both that cannot be installed.", "class"),
		reboot:        desc("reboot_required", "Whether the host needs a reboot."),
		rebootReasons: desc("reboot_reasons", "Reasons for which the host needs a reboot.", "cause"),
		faults:        desc("metadata_faults", "Package sources that cannot be believed, by fault.", "fault"),
		problems:      desc("package_problems", "What keeps packages from being installed: faults of sources, and of the installation."),
		stale:         desc("stale_processes", "Processes that run code which was replaced on disk, on the host itself or in pods.", "in"),
		unknown:       desc("status_unknown", "Parts of the status that could not be found out.", "part"),
		metadataAge:   desc("metadata_age_seconds", "How long ago the package source that waited longest was last compared with its archive."),
		age:           desc("status_age_seconds", "How long ago the host last looked at what it lacks."),
	}
}

func (k *statusCollector) Describe(into chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{k.updates, k.reboot, k.rebootReasons, k.faults, k.problems, k.stale, k.unknown, k.metadataAge, k.age} {
		into <- desc
	}
}

func (k *statusCollector) Collect(into chan<- prometheus.Metric) {
	ctx, cancel := k.c.call(context.Background())
	defer cancel()
	hosts, err := k.c.hosts(ctx)
	if err != nil {
		into <- prometheus.NewInvalidMetric(k.updates, err)
		return
	}
	for name, h := range hosts {
		if summary := h.report.GetSummary(); summary != nil {
			k.host(into, name, summary, k.c.now())
		}
	}
}

func (k *statusCollector) host(into chan<- prometheus.Metric, name string, s *drydockv1.StatusSummary, now time.Time) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		into <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{name}, labels...)...)
	}
	gauge(k.updates, float64(s.GetSecurityUpdates()), "security")
	gauge(k.updates, float64(s.GetUpdates()-s.GetSecurityUpdates()), "other")
	gauge(k.updates, float64(s.GetBlockedUpdates()), "blocked")
	required := 0.0
	if s.GetRebootRequired() {
		required = 1
	}
	gauge(k.reboot, required)
	for cause, count := range s.GetRebootCauses() {
		gauge(k.rebootReasons, float64(count), cause)
	}
	gauge(k.problems, float64(len(s.GetProblems())))
	gauge(k.stale, float64(s.GetStaleProcesses()-s.GetStaleInPods()), "host")
	gauge(k.stale, float64(s.GetStaleInPods()), "pods")
	for fault, count := range s.GetFaults() {
		gauge(k.faults, float64(count), fault)
	}
	for part := range s.GetUnknown() {
		gauge(k.unknown, 1, part)
	}
	if at := s.GetMetadataConfirmed(); at != nil {
		gauge(k.metadataAge, now.Sub(at.AsTime()).Seconds())
	}
	if at := s.GetCollected(); at != nil {
		gauge(k.age, now.Sub(at.AsTime()).Seconds())
	}
}
