package orchestrator

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves what Prometheus asks for. Whether it leads, and faults of its files, every controller tells of itself. All else
// only the one that leads shows: hosts report to it alone, and nothing is counted twice where all controllers are asked.
func (c *Controller) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&ownCollector{
		c:      c,
		leads:  prometheus.NewDesc("drydock_leader", "1 where this controller leads; one that shows 0 shows no hosts, pods and rollouts.", nil, nil),
		faults: prometheus.NewDesc("drydock_pool_faults", "Files of pools that have a fault, at this controller.", nil, nil),
	})
	registry.MustRegister(ofLeader{c, newStatusCollector(c)}, ofLeader{c, c.rollouts.Collector()}, ofLeader{c, &collector{
		c:           c,
		hosts:       prometheus.NewDesc("drydock_hosts", "Hosts by state.", []string{"state"}, nil),
		pods:        prometheus.NewDesc("drydock_pods", "Pods by phase.", []string{"phase"}, nil),
		controllers: prometheus.NewDesc("drydock_controllers", "Controllers by state.", []string{"state"}, nil),
	}})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// ofLeader collects nothing where another controller leads.
type ofLeader struct {
	c *Controller
	prometheus.Collector
}

func (k ofLeader) Collect(into chan<- prometheus.Metric) {
	if r, _ := k.c.reigning(); r != nil {
		k.Collector.Collect(into)
	}
}

// ownCollector is what a controller knows of itself.
type ownCollector struct {
	c             *Controller
	leads, faults *prometheus.Desc
}

func (k *ownCollector) Describe(into chan<- *prometheus.Desc) {
	into <- k.leads
	into <- k.faults
}

func (k *ownCollector) Collect(into chan<- prometheus.Metric) {
	leads := 0.0
	if r, _ := k.c.reigning(); r != nil {
		leads = 1
	}
	into <- prometheus.MustNewConstMetric(k.leads, prometheus.GaugeValue, leads)
	into <- prometheus.MustNewConstMetric(k.faults, prometheus.GaugeValue, float64(len(k.c.pools.faults())))
}

type collector struct {
	c                        *Controller
	hosts, pods, controllers *prometheus.Desc
}

func (k *collector) Describe(into chan<- *prometheus.Desc) {
	into <- k.hosts
	into <- k.pods
	into <- k.controllers
}

func (k *collector) Collect(into chan<- prometheus.Metric) {
	ctx, cancel := k.c.call(context.Background())
	defer cancel()
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
	controllers, err := k.c.controllers(ctx)
	if err != nil {
		into <- prometheus.NewInvalidMetric(k.controllers, err)
		return
	}
	known := make(map[string]int)
	for _, controller := range controllers {
		known[controller.GetState()]++
	}
	gauge(into, k.controllers, known)
}

func gauge(into chan<- prometheus.Metric, desc *prometheus.Desc, counts map[string]int) {
	for label, count := range counts {
		into <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(count), label)
	}
}
