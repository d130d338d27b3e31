package rollout

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	drydockv1 "drydock/api/drydock/v1"
)

// collector shows what has become of rollouts: how many of a pool are in which state, and the hosts of its latest.
type collector struct {
	of *Rollouts

	rollouts, hosts, latest *prometheus.Desc
}

// Collector is what Prometheus is shown of rollouts.
func (s *Rollouts) Collector() prometheus.Collector {
	return &collector{
		of:       s,
		rollouts: prometheus.NewDesc("drydock_rollouts", "Rollouts by pool and state.", []string{"pool", "state"}, nil),
		hosts:    prometheus.NewDesc("drydock_rollout_hosts", "Hosts of a pool's latest rollout: patched, failed or left.", []string{"pool", "state"}, nil),
		latest:   prometheus.NewDesc("drydock_rollout_age_seconds", "How long ago a pool's latest rollout started.", []string{"pool"}, nil),
	}
}

func (k *collector) Describe(into chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{k.rollouts, k.hosts, k.latest} {
		into <- desc
	}
}

func (k *collector) Collect(into chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), k.of.Timings.CallTimeout)
	defer cancel()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		into <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	all, err := k.of.List(ctx, "", 0)
	if err != nil {
		into <- prometheus.NewInvalidMetric(k.rollouts, err)
		return
	}
	states := map[[2]string]int{}
	latest := map[string]*drydockv1.Rollout{}
	for _, rollout := range all {
		states[[2]string{rollout.GetPool(), word(rollout.GetState())}]++
		if latest[rollout.GetPool()] == nil {
			latest[rollout.GetPool()] = rollout
		}
	}
	for of, count := range states {
		gauge(k.rollouts, float64(count), of[0], of[1])
	}
	for name, rollout := range latest {
		gauge(k.hosts, float64(rollout.GetHostsPatched()), name, "patched")
		gauge(k.hosts, float64(rollout.GetHostsFailed()), name, "failed")
		gauge(k.hosts, float64(rollout.GetHostsTotal()-rollout.GetHostsPatched()-rollout.GetHostsFailed()), name, "left")
		gauge(k.latest, k.of.Now().Sub(rollout.GetStarted().AsTime()).Seconds(), name)
	}
}
