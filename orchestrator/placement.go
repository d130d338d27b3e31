package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"connectrpc.com/connect"

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

// place finds the host for a new pod: the one asked for, or of those that can take it the one that it has affinity to, else the one
// with the most free memory.
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
	if wanted != "" {
		h, ok := hosts[wanted]
		if !ok {
			return host{}, noHost(wanted)
		}
		hosts = map[string]host{wanted: h}
	}
	kept, err := c.keptApart(ctx, spec)
	if err != nil {
		return host{}, err
	}
	reasons := leaveOut(hosts, kept)
	ranked, more := rank(hosts, needOf(spec), nil)
	reasons = append(reasons, more...)
	slices.SortStableFunc(ranked, func(a, b host) int {
		switch spec.GetAffinity() {
		case a.name():
			return -1
		case b.name():
			return 1
		}
		return 0
	})
	for _, h := range ranked {
		lacks, err := c.objections(ctx, h, spec)
		if err != nil {
			return host{}, err
		}
		if len(lacks) == 0 {
			return h, nil
		}
		reasons = append(reasons, lacks...)
	}
	return host{}, noPlace("run pod "+spec.GetName(), reasons)
}

// objections asks a host what it lacks that a pod needs, before anything of the pod is made.
func (c *Controller) objections(ctx context.Context, h host, spec *drydockv1.PodSpec) ([]*drydockv1.Refusal, error) {
	agent, err := c.agents.at(h.record)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timings.CallTimeout)
	defer cancel()
	answer, err := agent.CheckPod(ctx, connect.NewRequest(&drydockv1.CheckPodRequest{Spec: spec}))
	switch {
	case connect.CodeOf(err) == connect.CodeUnimplemented: // an agent of an earlier version finds out when it makes the pod
		return nil, nil
	case err != nil:
		return []*drydockv1.Refusal{because(fmt.Sprintf("host %s does not answer: %v", h.name(), err), "bring its agent back, or choose another host")}, nil
	}
	return answer.Msg.GetRefusals(), nil
}

// choosePlace is the best of the hosts, or a refusal that says of each why not.
func choosePlace(what string, hosts map[string]host, n need, except []string) (host, error) {
	ranked, reasons := rank(hosts, n, except)
	if len(ranked) > 0 {
		return ranked[0], nil
	}
	return host{}, noPlace(what, reasons)
}

func noPlace(what string, reasons []*drydockv1.Refusal) error {
	if len(reasons) == 0 {
		reasons = append(reasons, because("there is no host to choose", "let one join: `drydock host join NAME`"))
	}
	return refuse(what, reasons...)
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
