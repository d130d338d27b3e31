package plan

import "time"

// Plan is a rollout before it begins. Where it has blockers it has no rounds.
type Plan struct {
	Pool   string
	Rounds []Round
	// Current are hosts that lack nothing, Skipped those that cannot take part.
	Current []string
	Skipped []Blocker
	// Blockers are what is in the way. Proven says that there is no plan while any of them stays, rather than that none was
	// found; Minimal that none of the pods named could be left out of the list.
	Blockers        []Blocker
	Proven, Minimal bool
	Duration        time.Duration
	// Moves counts migrations, Restarts the pods that are stopped and started again.
	Moves, Restarts int
	// Exhaustive says that the order was found by looking at every possibility, after the usual way had found none.
	Exhaustive bool
}

// Round is hosts that are patched at the same time.
type Round struct {
	Hosts []HostStep
	// Drain are moves before the hosts are patched. The moves of one stage may run at the same time and in any order; a stage
	// begins when the one before has ended.
	Drain [][]Move
	// Return are moves after the hosts are patched, in stages too.
	Return   [][]Move
	Duration time.Duration
	Soak     time.Duration
}

// HostStep is what is done to one host.
type HostStep struct {
	Host string
	// Why it comes here in the order.
	Why   string
	Patch []Package
	// Drained says that its pods are moved away first.
	Drained, Reboot bool
	Duration        time.Duration
}

// Move is one pod from one host to another. With Restart it is stopped and started again instead, where From and To are the
// same after the host is patched.
type Move struct {
	Pod, From, To      string
	Why                string
	Mode               Mode
	Restart            bool
	Blackout, Duration time.Duration
}

// Blocker is one thing in the way.
type Blocker struct {
	Host, Pod string
	Refusal
}

// PodForecast is what a rollout means for one pod.
type PodForecast struct {
	Moves    int
	Blackout time.Duration
	// Host is where it is at the end.
	Host string
}

// Forecast sums the plan up by pod; pods that are left where they are do not occur.
func (p *Plan) Forecast() map[string]PodForecast {
	pods := map[string]PodForecast{}
	for _, r := range p.Rounds {
		for _, stages := range [][][]Move{r.Drain, r.Return} {
			for _, stage := range stages {
				for _, m := range stage {
					f := pods[m.Pod]
					f.Moves, f.Blackout, f.Host = f.Moves+1, f.Blackout+m.Blackout, m.To
					pods[m.Pod] = f
				}
			}
		}
	}
	return pods
}
