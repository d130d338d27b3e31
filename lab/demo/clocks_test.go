package demo

import "testing"

func TestAClockThatGoesBackIsCounted(t *testing.T) {
	w := &clockWatch{last: map[string][2]float64{}, steps: map[string]int{}, seen: map[string]int{}}
	for _, said := range []string{
		"cache 900.10 monotonic 0 0 boottime 0 0\ndb 900.10 monotonic 0 0 boottime 0 0\n",
		"",
		"half a li",
		"cache 20.00 monotonic 890 0 boottime 890 500000000\n", // another host, that is not up for as long
		"db 20.00 monotonic 880 150000000 boottime 0 0\n",
		"cache 30.00 monotonic 890 0 boottime 890 500000000\n",
	} {
		w.take(said)
	}
	for pod, want := range map[string]int{"cache": 0, "db": 1, "never seen": 1} {
		if got := w.stepsBack(pod); got != want {
			t.Errorf("%s: %d steps back, want %d", pod, got, want)
		}
	}
}
