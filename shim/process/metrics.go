package process

import (
	"github.com/prometheus/client_golang/prometheus"

	"drydock/shim/chain"
)

// collector reads the proxy's counters when Prometheus asks.
type collector struct{ process *Process }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("drydock_shim_"+name, help, append([]string{"service"}, labels...), nil)
}

// Describe says nothing, so that labels may come and go with versions.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads everything once.
func (c collector) Collect(out chan<- prometheus.Metric) {
	p := c.process.proxy
	c.process.mu.Lock()
	service := c.process.config.record.Service
	c.process.mu.Unlock()
	number := func(kind prometheus.ValueType, name, help string, value float64) {
		out <- prometheus.MustNewConstMetric(describe(name, help), kind, value, service)
	}
	number(prometheus.GaugeValue, "connections", "Clients that are connected.", float64(p.Connections()))
	number(prometheus.CounterValue, "spliced_total", "Connections joined to the server unread.", float64(p.Spliced()))
	number(prometheus.CounterValue, "unknown_version_total", "Calls refused because the record lacks their client's version.", float64(p.Unknown()))
	number(prometheus.CounterValue, "module_faults_total", "Connections that ended because a module broke.", float64(p.Faults()))
	number(prometheus.CounterValue, "changes_total", "Changes of the graph of operators.", float64(p.Changes()))
	calls := describe("calls_total", "Calls by versions and outcome.", "client", "server", "outcome")
	for _, n := range p.Counts() {
		for outcome, value := range map[string]uint64{
			"passed": n.Passed, "translated": n.Translated, "disallowed": n.Disallowed, "untranslatable": n.Untranslatable,
		} {
			out <- prometheus.MustNewConstMetric(calls, prometheus.CounterValue, float64(value), service, n.Client, n.Server, outcome)
		}
	}
	hops := describe("hop_seconds", "How long a translator took for a request, an answer or a message.", "from", "to")
	for _, h := range p.Hops() {
		buckets := map[float64]uint64{}
		for i, bound := range chain.HopBounds() {
			buckets[bound.Seconds()] = h.UpTo[i]
		}
		out <- prometheus.MustNewConstHistogram(hops, h.Times, h.Total.Seconds(), buckets, service, h.From, h.To)
	}
}
