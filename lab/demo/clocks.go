package demo

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"drydock/lab/rig"
)

// clockWatch looks at the clocks that pods have, from the hosts that they are on: whether one of them ever goes back.
type clockWatch struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	last  map[string][2]float64 // by pod: CLOCK_MONOTONIC and CLOCK_BOOTTIME, in seconds
	steps map[string]int
	seen  map[string]int
}

// clockEvery is often enough to see a pod on each host that it is on: uptimes of hosts differ by more.
const clockEvery = 10 * time.Second

// clockScript says for each pod that is not frozen how long the host is up, and what is added to that in the pod's time namespace.
const clockScript = `for pod in /sys/fs/cgroup/drydock/pods/*/; do
    pid=$(find "$pod" -name cgroup.procs -exec cat {} + 2>/dev/null | head -n 1)
    [ -n "$pid" ] || continue
    ! find "$pod" -name cgroup.events -exec cat {} + 2>/dev/null | grep -q 'frozen 1' || continue
    offsets=$(cat /proc/$pid/timens_offsets 2>/dev/null) || continue
    read up rest </proc/uptime
    echo $(basename "$pod") $up $offsets
done`

func watchClocks(ctx context.Context, r *rig.Rig) *clockWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &clockWatch{cancel: cancel, done: make(chan struct{}), last: map[string][2]float64{}, steps: map[string]int{}, seen: map[string]int{}}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			for _, host := range r.Hosts() {
				// A host that is being rebooted has no pod.
				if out, err := r.Exec(ctx, host, "sh", "-c", clockScript).Output(); err == nil {
					w.take(string(out))
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(clockEvery):
			}
		}
	}()
	return w
}

func (w *clockWatch) stop() {
	w.cancel()
	<-w.done
}

// take reads what the script says.
func (w *clockWatch) take(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(text) {
		var pod string
		var up, monotonic, boottime float64
		var ns [2]float64
		if _, err := fmt.Sscanf(line, "%s %f monotonic %f %f boottime %f %f", &pod, &up, &monotonic, &ns[0], &boottime, &ns[1]); err != nil {
			continue
		}
		now := [2]float64{up + monotonic + ns[0]/1e9, up + boottime + ns[1]/1e9}
		for i, before := range w.last[pod] {
			if now[i] < before {
				w.steps[pod]++
			}
		}
		w.last[pod] = now
		w.seen[pod]++
	}
}

// stepsBack is how often a clock of the pod went back; once more where its clocks were never seen.
func (w *clockWatch) stepsBack(pod string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[pod] == 0 {
		return 1
	}
	return w.steps[pod]
}
