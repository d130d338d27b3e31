package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newStatusCommand(a *app) *cobra.Command {
	refresh := false
	cmd := &cobra.Command{
		Use:               "status [HOST]",
		Short:             "Show at a glance which hosts need what, and why",
		Args:              between(0, "HOST"),
		ValidArgsFunction: a.completeArgs(hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if refresh && len(args) == 0 {
				return misuse(cmd, "--refresh: name the host that is to ask its archives")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.hostStatus(cmd.Context(), c, args[0], refresh)
			}
			o := overview{}
			if err := o.fetch(cmd.Context(), c); err != nil {
				return err
			}
			return a.print(o.document(), func(t *table) { o.table(a, t) })
		},
	}
	cmd.Flags().BoolVar(&refresh, "refresh", false, "have the host ask its package archives for what is new first")
	return cmd
}

// overview is the pool at one moment.
type overview struct {
	controller *v1.GetVersionResponse
	hosts      []*v1.Host
	pods       []*v1.Pod
}

func (o *overview) fetch(ctx context.Context, c *client) error {
	var err error
	if o.controller, err = ask(ctx, c, c.GetVersion, &v1.GetVersionRequest{}); err != nil {
		return err
	}
	hosts, err := ask(ctx, c, c.ListHosts, &v1.ListHostsRequest{})
	if err != nil {
		return err
	}
	pods, err := ask(ctx, c, c.ListPods, &v1.ListPodsRequest{})
	if err != nil {
		return err
	}
	o.hosts, o.pods = hosts.Hosts, pods.Pods
	return nil
}

func (o *overview) document() any {
	return map[string]any{"controller": message{o.controller}, "hosts": messages(o.hosts), "pods": messages(o.pods)}
}

func (o *overview) table(a *app, t *table) {
	t.row("Controller:", fmt.Sprintf("%s, leader %s, version %s (API %d)", o.controller.Controller, o.controller.Leader,
		o.controller.Version, o.controller.Api))
	t.row("Hosts:", tally(o.hosts, func(h *v1.Host) string { return h.State }))
	t.row("Pods:", tally(o.pods, func(p *v1.Pod) string { return phaseWord(p.Phase) }))
	if len(o.hosts) > 0 {
		t.section("", "HOST", "STATE", "PODS", "KERNEL", "UPDATES", "REBOOT", "STALE", "MEMORY FREE", "SEEN")
	}
	for _, h := range o.hosts {
		t.row(h.Name, h.State, fmt.Sprint(len(h.Pods)), h.GetInfo().GetKernel(), updatesCell(h.Summary), rebootCell(h.Summary), staleCell(h.Summary),
			size(h.GetInfo().GetMemoryAvailableBytes()), a.age(h.LastSeen))
	}
	o.attentionSection(t)
}

func (o *overview) attentionSection(t *table) {
	if attention := o.attention(); len(attention) > 0 {
		t.section("Needs attention")
		for _, line := range attention {
			t.line("  - %s", line)
		}
	}
}

// attention lists what an operator should look at.
func (o *overview) attention() []string {
	var out []string
	for _, h := range o.hosts {
		if h.State != "ready" {
			out = append(out, withMessage(fmt.Sprintf("host %s is %s", h.Name, h.State), h.Message))
		}
		for _, l := range h.GetLinks() {
			if l.State == "failed" && h.Name < l.Peer { // the other host has the same link
				out = append(out, fmt.Sprintf("no pod can move between %s and %s: %s; remedy: %s", h.Name, l.Peer, l.Reason, l.Remedy))
			}
		}
		for _, p := range h.GetInfo().GetProblems() {
			out = append(out, fmt.Sprintf("host %s: %s; remedy: %s", h.Name, p.Reason, p.Remedy))
		}
		out = append(out, needs(h.Name, h.Summary)...)
	}
	for _, p := range o.pods {
		wanted := p.Phase == v1.PodPhase_POD_PHASE_RUNNING || p.Phase == v1.PodPhase_POD_PHASE_STOPPED
		if !wanted || p.Message != "" {
			out = append(out, withMessage(fmt.Sprintf("pod %s is %s on %s", p.GetSpec().GetName(), phaseWord(p.Phase),
				cmp.Or(podPlace(p), "no host")), p.Message))
		}
		for _, s := range p.Containers {
			if s.Healthy != nil && !*s.Healthy {
				out = append(out, withMessage(fmt.Sprintf("pod %s: container %s is unhealthy", p.GetSpec().GetName(), s.Name),
					s.HealthMessage))
			}
		}
	}
	return out
}

func withMessage(text, message string) string {
	if message == "" {
		return text
	}
	return text + ": " + message
}

// tally counts things by state: 3 (2 ready, 1 cordoned).
func tally[T any](things []T, state func(T) string) string {
	if len(things) == 0 {
		return "none"
	}
	counts := map[string]int{}
	var states []string
	for _, thing := range things {
		s := cmp.Or(state(thing), "in an unknown state")
		if counts[s]++; counts[s] == 1 {
			states = append(states, s)
		}
	}
	slices.SortFunc(states, func(x, y string) int {
		return cmp.Or(cmp.Compare(counts[y], counts[x]), strings.Compare(x, y))
	})
	var parts []string
	for _, s := range states {
		parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
	}
	return fmt.Sprintf("%d (%s)", len(things), strings.Join(parts, ", "))
}
