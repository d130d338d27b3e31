package orchestrator

import (
	"testing"

	drydockv1 "drydock/api/drydock/v1"
)

const apartPool = plainPool + "pods: {apart: [{name: db, labels: {app: db}}]}\n"

func database(name string) *drydockv1.PodSpec {
	return &drydockv1.PodSpec{Name: name, Labels: map[string]string{"app": "db"}, Containers: []*drydockv1.Container{{Image: "redis:7"}}}
}

func TestPodsThatAPoolKeepsApartAreNeverPutOnOneHost(t *testing.T) {
	c := newCluster(t, apartPool)
	on := map[string]string{}
	for _, name := range []string{"db1", "db2"} {
		pod, err := c.runSpec(database(name), "")
		c.must(err)
		for other, host := range on {
			if host == pod.GetHost() {
				t.Errorf("pods %s and %s are on %s", name, other, host)
			}
		}
		on[name] = pod.GetHost()
	}
	_, _, err := c.move(t.Context(), "db1", on["db2"], false)
	c.refused(err, "pool web keeps pod db1 apart from db2, which is on "+on["db2"])
	_, err = c.runSpec(database("db3"), on["db1"])
	c.refused(err, "pool web keeps pod db3 apart from db1, which is on "+on["db1"])
	_, err = c.runSpec(database("db3"), "")
	c.must(err)
	_, err = c.runSpec(database("db4"), "")
	c.refused(err, "host h1: pool web", "host h2: pool web", "host h3: pool web")
}

func TestARolloutKeepsPodsApart(t *testing.T) {
	c := newCluster(t, apartPool)
	for _, name := range []string{"db1", "db2"} {
		_, err := c.runSpec(database(name), "")
		c.must(err)
	}
	c.rests(c.mustStart("web"), rolloutFinished)
	c.patched(1, "h1", "h2", "h3")
	if a, b := c.owner("db1").Owner.Host, c.owner("db2").Owner.Host; a == b {
		t.Errorf("both are on %s", a)
	}
}
