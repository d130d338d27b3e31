package plan

import "drydock/orchestrator/pool"

// PolicyOf is what a plan takes from a pool.
func PolicyOf(p *pool.Pool) Policy {
	policy := Policy{
		Pool: p.Name, Hosts: p.AtOnce.Hosts, Canaries: p.AtOnce.Canaries, Reboot: Reboot(p.Reboot), WithoutDrain: p.Patch.WithoutDrain,
		Budget: p.Pods.DowntimeBudget, StopWhatCannotMove: p.Pods.CannotMove == pool.CannotMoveStop, Grace: p.Pods.Grace,
		Return: Return(p.Pods.Return), Soak: p.Soak.Host, SoakCanaries: p.Soak.Canaries,
	}
	if p.AtOnce.FailureDomain != "" {
		policy.Domains = p.AtOnce.Domains
	}
	for _, mode := range p.Pods.Modes {
		policy.Modes = append(policy.Modes, Mode(mode))
	}
	return policy
}

// ApartOf is which groups of a pool a pod belongs to.
func ApartOf(p *pool.Pool, pod string, labels map[string]string) []Apart {
	var groups []Apart
	for _, a := range p.Pods.Apart {
		if a.Has(pod, labels) {
			groups = append(groups, Apart{Group: a.Name, Domain: a.Scope == pool.ScopeFailureDomain})
		}
	}
	return groups
}
