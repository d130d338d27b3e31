package orchestrator

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves what Prometheus asks for: hosts and pods by state, and whether this controller leads.
func (c *Controller) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newStatusCollector(c), newRolloutCollector(c), &collector{
		c:     c,
		hosts: prometheus.NewDesc("drydock_hosts", "Hosts by state.", []string{"state"}, nil),
		pods:  prometheus.NewDesc("drydock_pods", "Pods by phase.", []string{"phase"}, nil),
		leads: prometheus.NewDesc("drydock_leader", "Whether this controller leads.", nil, nil),
	})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

type collector struct {
	c                  *Controller
	hosts, pods, leads *prometheus.Desc
}

func (k *collector) Describe(into chan<- *prometheus.Desc) {
	into <- k.hosts
	into <- k.pods
	into <- k.leads
}

func (k *collector) Collect(into chan<- prometheus.Metric) {
	ctx, cancel := k.c.call(context.Background())
	defer cancel()
	leads := 0.0
	if r, _ := k.c.reigning(); r != nil {
		leads = 1
	}
	into <- prometheus.MustNewConstMetric(k.leads, prometheus.GaugeValue, leads)
	if leads == 0 {
		// Hosts report to the leader: only it can tell.
		return
	}
	hosts, err := k.c.hosts(ctx)
	if err != nil {
		into <- prometheus.NewInvalidMetric(k.hosts, err)
		return
	}
	states := make(map[string]int)
	for _, host := range hosts {
		states[host.state]++
	}
	gauge(into, k.hosts, states)
	pods, err := k.c.listPods(ctx, "")
	if err != nil {
		into <- prometheus.NewInvalidMetric(k.pods, err)
		return
	}
	phases := make(map[string]int)
	for _, pod := range pods {
		phases[pod.GetPhase().String()]++
	}
	gauge(into, k.pods, phases)
}

func gauge(into chan<- prometheus.Metric, desc *prometheus.Desc, counts map[string]int) {
	for label, count := range counts {
		into <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(count), label)
	}
}
