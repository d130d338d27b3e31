package plan

import (
	"fmt"
	"slices"
)

// verifier replays a plan step by step and knows nothing of how it was made.
type verifier struct {
	in      Input
	hosts   map[string]Host
	pods    map[string]Pod
	at      map[string]string
	patched map[string]bool
}

func verify(in Input, p *Plan) error {
	v := &verifier{in, map[string]Host{}, map[string]Pod{}, map[string]string{}, map[string]bool{}}
	for _, h := range in.Hosts {
		v.hosts[h.Name] = h
	}
	for _, q := range in.Pods {
		v.pods[q.Name] = q
		v.at[q.Name] = q.Host
	}
	for i, r := range p.Rounds {
		if err := v.round(r); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
	}
	return v.end()
}

func (v *verifier) lacks(h Host) bool {
	return h.Away == nil && (len(h.Patch) > 0 || h.RebootRequired && v.in.Policy.Reboot != RebootNever)
}

func (v *verifier) reboots(h Host) bool {
	return v.in.Policy.Reboot == RebootAlways || v.in.Policy.Reboot == RebootWhenRequired && h.RebootRequired
}

func (v *verifier) mustDrain(h Host) bool {
	return v.reboots(h) || h.RestartsPods || !v.in.Policy.WithoutDrain
}

func (v *verifier) stack(name string) Stack {
	h := v.hosts[name]
	if !v.patched[name] {
		return h.Before
	}
	s := h.After
	if !v.reboots(h) {
		s.Kernel = h.Before.Kernel
	}
	if len(h.Patch) == 0 && !v.reboots(h) {
		s = h.Before
	}
	return s
}

func (v *verifier) round(r Round) error {
	busy, domains := map[string]bool{}, map[string]bool{}
	for _, s := range r.Hosts {
		h, known := v.hosts[s.Host]
		switch {
		case !known || busy[s.Host] || v.patched[s.Host] || !v.lacks(h):
			return fmt.Errorf("host %s is not to be patched here", s.Host)
		case s.Drained != v.mustDrain(h), s.Reboot != v.reboots(h), s.Why == "", !slices.Equal(s.Patch, h.Patch):
			return fmt.Errorf("host %s: wrong step %+v", s.Host, s)
		}
		busy[s.Host], domains[h.Domain] = true, true
	}
	if len(busy) == 0 || len(busy) > v.in.Policy.Hosts || v.in.Policy.Domains > 0 && len(domains) > v.in.Policy.Domains {
		return fmt.Errorf("%d hosts in %d domains at once", len(busy), len(domains))
	}
	for _, stage := range r.Drain {
		if err := v.stage(stage); err != nil {
			return err
		}
	}
	down := map[string]bool{}
	for _, stage := range r.Return {
		for _, m := range stage {
			down[m.Pod] = m.Restart && m.From == m.To
		}
	}
	for pod, host := range v.at {
		if busy[host] && v.mustDrain(v.hosts[host]) && !down[pod] {
			return fmt.Errorf("pod %s is on %s, which is patched", pod, host)
		}
	}
	for h := range busy {
		v.patched[h] = true
	}
	for _, stage := range r.Return {
		if err := v.stage(stage); err != nil {
			return fmt.Errorf("return: %w", err)
		}
	}
	return nil
}

// stage checks moves as if all of them ran at once and the slowest way: each pod counts at both ends.
func (v *verifier) stage(moves []Move) error {
	incoming := map[string][]string{}
	seen := map[string]bool{}
	for _, m := range moves {
		if err := v.move(m); err != nil {
			return err
		}
		if seen[m.Pod] {
			return fmt.Errorf("pod %s moves twice at the same time", m.Pod)
		}
		if seen[m.Pod] = true; m.From != m.To {
			incoming[m.To] = append(incoming[m.To], m.Pod)
		}
	}
	for host, pods := range incoming {
		var cpu, memory int64
		for pod, at := range v.at {
			if at == host {
				cpu += v.pods[pod].CPU
				memory += v.pods[pod].Memory
			}
		}
		for _, pod := range pods {
			cpu += v.pods[pod].CPU
			memory += v.pods[pod].Memory
			if err := v.apart(pod, host, incoming); err != nil {
				return err
			}
		}
		if cpu > v.hosts[host].CPU || memory > v.hosts[host].Memory {
			return fmt.Errorf("host %s would hold %d of %d, %d of %d", host, cpu, v.hosts[host].CPU, memory, v.hosts[host].Memory)
		}
	}
	for _, m := range moves {
		v.at[m.Pod] = m.To
	}
	return nil
}

func (v *verifier) move(m Move) error {
	pod, known := v.pods[m.Pod]
	switch {
	case !known || v.at[m.Pod] != m.From || v.hosts[m.To].Name == "" || m.Why == "":
		return fmt.Errorf("%+v: the pod is at %s", m, v.at[m.Pod])
	case v.hosts[m.To].Away != nil || v.hosts[m.From].Away != nil:
		return fmt.Errorf("%+v: a host takes no part", m)
	case m.Restart:
		if !v.in.Policy.StopWhatCannotMove || pod.Fixed == nil && len(pod.Modes) > 0 || m.To == m.From && !v.patched[m.To] {
			return fmt.Errorf("%+v: may not be started again there", m)
		}
		return nil
	case m.To == m.From || v.in.Pair(v.stack(m.From), v.stack(m.To)) != nil:
		return fmt.Errorf("%+v: %v cannot hand over to %v", m, v.stack(m.From), v.stack(m.To))
	case pod.Fixed != nil || !contains(pod.Modes, m.Mode) || !contains(v.in.Policy.Modes, m.Mode) || m.Blackout > v.in.Policy.Budget:
		return fmt.Errorf("%+v: not in a mode that is allowed", m)
	}
	return nil
}

func (v *verifier) apart(pod, host string, incoming map[string][]string) error {
	for _, a := range v.pods[pod].Apart {
		for other, q := range v.pods {
			if other == pod || !slices.Contains(q.Apart, a) {
				continue
			}
			places := []string{v.at[other]}
			for to, pods := range incoming {
				if slices.Contains(pods, other) {
					places = append(places, to)
				}
			}
			for _, place := range places {
				if place == host || a.Domain && v.hosts[place].Domain == v.hosts[host].Domain {
					return fmt.Errorf("pods %s and %s come together at %s", pod, other, host)
				}
			}
		}
	}
	return nil
}

func (v *verifier) end() error {
	for name, h := range v.hosts {
		if v.lacks(h) != v.patched[name] {
			return fmt.Errorf("at the end host %s is patched: %v", name, v.patched[name])
		}
	}
	if v.in.Policy.Return != ReturnAlways {
		return nil
	}
	for pod, host := range v.at {
		if home := v.pods[pod].Host; host != home {
			return fmt.Errorf("at the end pod %s is on %s and not back on %s", pod, host, home)
		}
	}
	return nil
}
