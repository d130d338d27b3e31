package plan

import (
	"fmt"
	"slices"
)

// Verify replays a plan step by step and returns the first thing that it must not do, if any. It shares nothing with what makes
// plans: a rollout asks it before the first host is touched. Moves of one stage are judged as if all ran at once and none had
// ended: each pod takes room at both ends.
func Verify(in Input, p *Plan) error {
	r := &replay{
		in: in, hosts: make(map[string]*replayHost, len(in.Hosts)), pods: make(map[string]Pod, len(in.Pods)),
		at: make(map[string]string, len(in.Pods)), together: map[spot]map[string]int{},
	}
	for _, h := range in.Hosts {
		r.hosts[h.Name] = &replayHost{Host: h, pods: map[string]bool{}}
	}
	for _, q := range in.Pods {
		r.pods[q.Name] = q
		r.enter(q.Name, q.Host)
		r.at[q.Name] = q.Host
	}
	for i, round := range p.Rounds {
		if err := r.round(round); err != nil {
			return fmt.Errorf("plan of %s, round %d: %w", p.Pool, i+1, err)
		}
	}
	if len(p.Blockers) == 0 {
		return r.end()
	}
	return nil
}

type replayHost struct {
	Host
	cpu, memory int64
	pods        map[string]bool
	patched     bool
}

// spot is a group of pods at a host or in a failure domain.
type spot struct {
	apart Apart
	place string
}

type replay struct {
	in    Input
	hosts map[string]*replayHost
	pods  map[string]Pod
	at    map[string]string
	// together counts where the pods of a group are, at both ends while they move.
	together map[spot]map[string]int
}

func (r *replay) spots(pod, host string) []spot {
	var spots []spot
	for _, a := range r.pods[pod].Apart {
		place := host
		if a.Domain {
			place = r.hosts[host].Domain
		}
		spots = append(spots, spot{a, place})
	}
	return spots
}

func (r *replay) enter(pod, host string) {
	h := r.hosts[host]
	h.cpu += r.pods[pod].CPU
	h.memory += r.pods[pod].Memory
	h.pods[pod] = true
	for _, s := range r.spots(pod, host) {
		if r.together[s] == nil {
			r.together[s] = map[string]int{}
		}
		r.together[s][pod]++
	}
}

func (r *replay) leave(pod, host string) {
	h := r.hosts[host]
	h.cpu -= r.pods[pod].CPU
	h.memory -= r.pods[pod].Memory
	delete(h.pods, pod)
	for _, s := range r.spots(pod, host) {
		if r.together[s][pod]--; r.together[s][pod] == 0 {
			delete(r.together[s], pod)
		}
	}
}

func (r *replay) lacks(h *replayHost) bool {
	return h.Away == nil && (len(h.Patch) > 0 || h.RebootRequired && r.in.Policy.Reboot != RebootNever)
}

func (r *replay) reboots(h *replayHost) bool {
	return r.in.Policy.Reboot == RebootAlways || r.in.Policy.Reboot == RebootWhenRequired && h.RebootRequired
}

func (r *replay) stack(h *replayHost) Stack {
	if !h.patched {
		return h.Before
	}
	stack := h.Before
	if len(h.Patch) > 0 || r.reboots(h) {
		stack = h.After
	}
	if !r.reboots(h) {
		stack.Kernel = h.Before.Kernel
	}
	return stack
}

func (r *replay) round(round Round) error {
	domains := map[string]bool{}
	for _, stage := range round.Drain {
		if err := r.stage(stage); err != nil {
			return err
		}
	}
	restarts := map[string]bool{}
	for _, stage := range round.Return {
		for _, m := range stage {
			restarts[m.Pod] = restarts[m.Pod] || m.Restart && m.From == m.To
		}
	}
	for _, step := range round.Hosts {
		h := r.hosts[step.Host]
		if h == nil || h.patched || !r.lacks(h) {
			return fmt.Errorf("host %s is not to be patched", step.Host)
		}
		if step.Reboot != r.reboots(h) || !slices.Equal(step.Patch, h.Patch) {
			return fmt.Errorf("host %s is given another patch than it lacks", step.Host)
		}
		domains[h.Domain] = true
		if !r.reboots(h) && !h.RestartsPods && r.in.Policy.WithoutDrain {
			continue
		}
		for pod := range h.pods {
			if !restarts[pod] {
				return fmt.Errorf("pod %s is on host %s while it is patched", pod, step.Host)
			}
		}
	}
	for _, step := range round.Hosts {
		r.hosts[step.Host].patched = true
	}
	if n := len(round.Hosts); n == 0 || n > r.in.Policy.Hosts || r.in.Policy.Domains > 0 && len(domains) > r.in.Policy.Domains {
		return fmt.Errorf("%d hosts in %d failure domains at once", n, len(domains))
	}
	for _, stage := range round.Return {
		if err := r.stage(stage); err != nil {
			return fmt.Errorf("return: %w", err)
		}
	}
	return nil
}

func (r *replay) stage(moves []Move) error {
	moving := make(map[string]bool, len(moves))
	for _, m := range moves {
		if moving[m.Pod] {
			return fmt.Errorf("pod %s moves twice at the same time", m.Pod)
		}
		moving[m.Pod] = true
		if err := r.allowed(m); err != nil {
			return err
		}
		if m.From != m.To {
			r.enter(m.Pod, m.To)
		}
	}
	for _, m := range moves {
		h := r.hosts[m.To]
		if m.From != m.To && (h.cpu > h.CPU || h.memory > h.Memory) {
			return fmt.Errorf("host %s has no room for pod %s", m.To, m.Pod)
		}
		for _, s := range r.spots(m.Pod, m.To) {
			if m.From != m.To && len(r.together[s]) > 1 {
				return fmt.Errorf("pod %s comes to %s, where another of group %s is", m.Pod, s.place, s.apart.Group)
			}
		}
	}
	for _, m := range moves {
		if m.From != m.To {
			r.leave(m.Pod, m.From)
		}
		r.at[m.Pod] = m.To
	}
	return nil
}

func (r *replay) allowed(m Move) error {
	from, to, pod := r.hosts[m.From], r.hosts[m.To], r.pods[m.Pod]
	switch {
	case from == nil || to == nil || r.at[m.Pod] != m.From:
		return fmt.Errorf("pod %s is to go from %s to %s, and is on %s", m.Pod, m.From, m.To, r.at[m.Pod])
	case from.Away != nil || to.Away != nil:
		return fmt.Errorf("pod %s is to go from %s to %s, which do not both take part", m.Pod, m.From, m.To)
	case m.Restart:
		if inPlace := m.From == m.To && to.patched; !r.in.Policy.StopWhatCannotMove || !inPlace && m.From == m.To {
			return fmt.Errorf("pod %s may not be stopped on %s and started again on %s", m.Pod, m.From, m.To)
		}
	case m.From == m.To || r.in.Pair(r.stack(from), r.stack(to)) != nil:
		return fmt.Errorf("pod %s: host %s cannot hand over to %s at that moment", m.Pod, m.From, m.To)
	case pod.Fixed != nil || !contains(pod.Modes, m.Mode) || !contains(r.in.Policy.Modes, m.Mode) || m.Blackout > r.in.Policy.Budget:
		return fmt.Errorf("pod %s cannot be moved in mode %q within %s", m.Pod, m.Mode, r.in.Policy.Budget)
	}
	return nil
}

func (r *replay) end() error {
	for _, h := range r.in.Hosts {
		if x := r.hosts[h.Name]; r.lacks(x) && !x.patched {
			return fmt.Errorf("host %s is never patched", h.Name)
		}
	}
	if r.in.Policy.Return == ReturnAlways {
		for _, p := range r.in.Pods {
			if r.at[p.Name] != p.Host {
				return fmt.Errorf("pod %s does not return to host %s", p.Name, p.Host)
			}
		}
	}
	return nil
}
