package plan

import (
	"cmp"
	"time"
)

// blackout is how long a pod is expected to be silent for a move in a mode, and how long the move takes in all.
func (in *Input) blackout(p Pod, mode Mode) (silent, all time.Duration) {
	r := in.Rates
	copying := func(bytes int64) time.Duration {
		if r.Bandwidth <= 0 {
			return 0
		}
		return time.Duration(float64(bytes) / float64(r.Bandwidth) * float64(time.Second))
	}
	files, memory := copying(p.FileBytes), cmp.Or(p.Used, p.Memory)
	switch mode {
	case Precopy:
		rest, sent := memory, memory
		for range 10 {
			dirty := int64(copying(rest).Seconds() * float64(p.DirtyPerSecond))
			if dirty >= rest {
				break
			}
			rest = dirty
			sent += dirty
		}
		return r.Freeze + copying(rest), r.Move + r.Freeze + copying(sent) + files
	case Postcopy:
		return r.Freeze, r.Move + r.Freeze + copying(memory) + files
	}
	return r.Freeze + copying(memory), r.Move + r.Freeze + copying(memory) + files
}

// mode is the first that the pool and the pod allow and that meets the budget, or none: stop, which is the simplest; then pre-copy; then
// post-copy, which can lose a pod. Hosts choose in the same order when they move it.
func (in *Input) mode(p Pod) Mode {
	if p.Fixed != nil {
		return ""
	}
	for _, mode := range []Mode{Stop, Precopy, Postcopy} {
		if !contains(in.Policy.Modes, mode) || !contains(p.Modes, mode) {
			continue
		}
		if silent, _ := in.blackout(p, mode); silent <= in.Policy.Budget {
			return mode
		}
	}
	return ""
}

func contains(modes []Mode, mode Mode) bool {
	for _, m := range modes {
		if m == mode {
			return true
		}
	}
	return false
}

// forecaster fills in how long everything takes.
type forecaster struct {
	in   *Input
	pods map[string]Pod
}

func (in *Input) forecast(plan *Plan) {
	f := forecaster{in, make(map[string]Pod, len(in.Pods))}
	for _, p := range in.Pods {
		f.pods[p.Name] = p
	}
	for i := range plan.Rounds {
		r := &plan.Rounds[i]
		var patching time.Duration
		for j := range r.Hosts {
			h := &r.Hosts[j]
			h.Duration = time.Duration(len(h.Patch))*in.Rates.Package + in.Rates.Verify
			if h.Reboot {
				h.Duration += in.Rates.Boot
			}
			patching = max(patching, h.Duration)
		}
		r.Duration = patching
		for _, stage := range r.Drain {
			r.Duration += f.stage(stage, 0)
		}
		for _, stage := range r.Return {
			r.Duration += f.stage(stage, patching)
		}
		r.Soak = in.Policy.Soak
		if i == 0 && in.Policy.Canaries > 0 {
			r.Soak = max(in.Policy.Soak, in.Policy.SoakCanaries)
		}
		plan.Duration += r.Duration + r.Soak
	}
}

// stage fills in the moves of a stage; down is how long a pod has been stopped that is started again on its own host. What a
// stage takes is what its busiest host takes.
func (f forecaster) stage(moves []Move, down time.Duration) time.Duration {
	busy, count := map[string]time.Duration{}, map[string]int{}
	parallel := max(f.in.Rates.Parallel, 1)
	var longest time.Duration
	for i := range moves {
		m := &moves[i]
		pod := f.pods[m.Pod]
		m.Blackout, m.Duration = f.in.blackout(pod, m.Mode)
		if m.Restart {
			m.Mode = ""
			m.Blackout = f.in.Policy.Grace + f.in.Rates.Move
			m.Duration = m.Blackout
			if m.From == m.To {
				m.Blackout += down
			}
		}
		copying := max(m.Duration-f.in.Rates.Move-f.in.Rates.Freeze, 0)
		for _, host := range []string{m.From, m.To} {
			if count[host]%parallel == 0 {
				busy[host] += f.in.Rates.Move + f.in.Rates.Freeze
			}
			count[host]++
			busy[host] += copying
			longest = max(longest, busy[host])
		}
	}
	return longest
}
