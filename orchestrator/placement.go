package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
)

// need is what a pod takes of a host.
type need struct{ memory int64 }

func needOf(spec *drydockv1.PodSpec) need {
	var n need
	for _, container := range spec.GetContainers() {
		resources := container.GetResources()
		n.memory += cmp.Or(resources.GetMemoryRequestBytes(), resources.GetMemoryLimitBytes())
	}
	return n
}

// lacks is what keeps a host from having room for the need, or nil. A host that has not said how much it has is given the
// benefit of the doubt: it checks for itself.
func (n need) lacks(h host) *drydockv1.Refusal {
	free := h.report.GetInfo().GetMemoryAvailableBytes()
	if h.report.GetInfo() == nil || n.memory <= free {
		return nil
	}
	return because(fmt.Sprintf("host %s has %d MB of memory free, %d MB are needed", h.name(), free>>20, n.memory>>20),
		"free memory there, or ask for less")
}

// place finds the host for a new pod: the one asked for, or the one with the most free memory.
func (c *Controller) place(ctx context.Context, spec *drydockv1.PodSpec, wanted string) (host, error) {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return host{}, err
	}
	l, err := c.links(ctx)
	if err != nil {
		return host{}, err
	}
	l.markApart(hosts)
	what, n := "run pod "+spec.GetName(), needOf(spec)
	if wanted == "" {
		return choosePlace(what, hosts, n, nil)
	}
	h, ok := hosts[wanted]
	if !ok {
		return host{}, noHost(wanted)
	}
	if why := cmp.Or(h.why(), n.lacks(h)); why != nil {
		return host{}, refuse(what, why)
	}
	return h, nil
}

// choosePlace is the best of the hosts, or a refusal that says of each why not.
func choosePlace(what string, hosts map[string]host, n need, except []string) (host, error) {
	ranked, reasons := rank(hosts, n, except)
	if len(ranked) > 0 {
		return ranked[0], nil
	}
	if len(reasons) == 0 {
		reasons = append(reasons, because("there is no host to choose", "let one join: `drydock host join NAME`"))
	}
	return host{}, refuse(what, reasons...)
}

// rank lists the hosts that have room, the one with the most free memory first but those that no pod can leave last, and says
// of the others why not.
func rank(hosts map[string]host, n need, except []string) ([]host, []*drydockv1.Refusal) {
	var ranked []host
	var reasons []*drydockv1.Refusal
	for _, name := range sortedKeys(hosts) {
		if slices.Contains(except, name) {
			continue
		}
		if why := cmp.Or(hosts[name].why(), n.lacks(hosts[name])); why != nil {
			reasons = append(reasons, why)
			continue
		}
		ranked = append(ranked, hosts[name])
	}
	slices.SortStableFunc(ranked, func(a, b host) int {
		if a.apart != b.apart {
			if a.apart {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.report.GetInfo().GetMemoryAvailableBytes(), a.report.GetInfo().GetMemoryAvailableBytes())
	})
	return ranked, reasons
}
