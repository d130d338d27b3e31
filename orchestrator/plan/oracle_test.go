package plan

import "fmt"

// feasible goes through everything that can be done to a small pool, one step at a time, in the plainest way there is.
func feasible(in Input, without map[string]bool) bool {
	v := &verifier{in: in, hosts: map[string]Host{}, pods: map[string]Pod{}, at: map[string]string{}, patched: map[string]bool{}}
	for _, h := range in.Hosts {
		v.hosts[h.Name] = h
	}
	for _, p := range in.Pods {
		if !without[p.Name] {
			v.pods[p.Name] = p
			v.at[p.Name] = p.Host
		}
	}
	seen := map[string]bool{}
	var visit func() bool
	visit = func() bool {
		if v.end() == nil {
			return true
		}
		key := fmt.Sprint(v.at, v.patched)
		if seen[key] {
			return false
		}
		seen[key] = true
		for name, h := range v.hosts {
			if v.patched[name] || !v.lacks(h) || v.holds(name) && v.mustDrain(h) {
				continue
			}
			v.patched[name] = true
			if visit() {
				return true
			}
			delete(v.patched, name)
		}
		for pod, from := range v.at {
			for to := range v.hosts {
				m := Move{Pod: pod, From: from, To: to, Why: "try", Mode: Stop}
				if to == from || v.stage([]Move{m}) != nil {
					continue
				}
				if visit() {
					return true
				}
				v.at[pod] = from
			}
		}
		return false
	}
	return visit()
}

func (v *verifier) holds(host string) bool {
	for _, at := range v.at {
		if at == host {
			return true
		}
	}
	return false
}
