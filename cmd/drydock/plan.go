package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newPlanCommand(a *app) *cobra.Command {
	req := &v1.PlanPoolRequest{}
	cmd := &cobra.Command{
		Use:               "plan POOL",
		Short:             "Show what patching a pool would do, in order and with reasons; nothing is touched",
		Args:              exactly("POOL"),
		ValidArgsFunction: a.completeArgs(poolNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Pool = args[0]
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := wait(cmd.Context(), c.PlanPool, req)
			if err != nil {
				return err
			}
			if err := a.print(message{res.Plan}, func(t *table) { planTables(t, res.Plan) }); err != nil {
				return err
			}
			return blocked(res.Plan)
		},
	}
	cmd.Flags().BoolVar(&req.WithoutRefresh, "no-refresh", false, "go by what hosts know, without asking the package archives first")
	return cmd
}

// blocked is nil where nothing is in the plan's way.
func blocked(p *v1.PoolPlan) error {
	if len(p.Blockers) == 0 {
		return nil
	}
	f := &failure{status: statusRefused, message: fmt.Sprintf("pool %s cannot be patched as things are", p.Pool)}
	for _, b := range p.Blockers {
		f.refusals = append(f.refusals, &v1.Refusal{Reason: blockerText(b), Remedy: b.Remedy})
	}
	return f
}

// blockerText names the pod; that of a host names it already.
func blockerText(b *v1.PlanBlocker) string {
	if b.Pod == "" {
		return b.Reason
	}
	return fmt.Sprintf("pod %s on %s: %s", b.Pod, b.Host, b.Reason)
}

func planTables(t *table, p *v1.PoolPlan) {
	hosts := 0
	for _, r := range p.Rounds {
		hosts += len(r.Hosts)
	}
	switch {
	case len(p.Blockers) > 0:
		t.line("pool %s: no plan", p.Pool)
	case hosts == 0:
		t.line("pool %s: no host lacks anything", p.Pool)
	default:
		t.line("pool %s: %s in %s, %s, about %s", p.Pool, plural(hosts, "host"), plural(len(p.Rounds), "round"), movesText(p), took(p.Duration))
	}
	for i, r := range p.Rounds {
		roundTables(t, i, r)
	}
	if len(p.Pods) > 0 {
		t.section("", "POD", "MOVES", "BLACKOUT", "ENDS ON")
	}
	for _, pod := range p.Pods {
		t.row(pod.Pod, fmt.Sprint(pod.Moves), took(pod.Blackout), pod.Host)
	}
	if len(p.Current) > 0 {
		t.line("")
		t.line("Lack nothing: %s", strings.Join(p.Current, " "))
	}
	skippedSection(t, p.Skipped)
}

func skippedSection(t *table, skipped []*v1.PlanBlocker) {
	if len(skipped) == 0 {
		return
	}
	t.section("Take no part")
	for _, b := range skipped {
		t.line("  - %s; remedy: %s", b.Reason, b.Remedy)
	}
}

func movesText(p *v1.PoolPlan) string {
	text := plural(int(p.Moves), "move")
	if p.Restarts > 0 {
		text += ", " + plural(int(p.Restarts), "restart")
	}
	return text
}

func roundTables(t *table, i int, r *v1.PlanRound) {
	soak := ""
	if r.Soak.AsDuration() > 0 {
		soak = ", then watched for " + took(r.Soak)
	}
	t.section(fmt.Sprintf("Round %d: about %s%s", i+1, took(r.Duration), soak), "HOST", "REBOOT", "TAKES", "WHY HERE")
	for _, h := range r.Hosts {
		t.row(h.Host, yesNo(h.Reboot), took(h.Duration), h.Why)
	}
	t.section("", "HOST", "PACKAGE", "FROM", "WHY")
	for _, h := range r.Hosts {
		for _, p := range h.GetPatch().GetPackages() {
			t.row(h.Host, p.Name+"="+p.To, p.From, cmp.Or(p.Reason, p.Origin))
		}
		for _, reason := range h.GetPatch().GetRebootReasons() {
			t.row(h.Host, "reboot", blank, reason)
		}
	}
	if len(r.Drain)+len(r.Return) > 0 {
		t.section("", "POD", "FROM", "TO", "HOW", "BLACKOUT", "WHY")
	}
	for _, stages := range [][]*v1.PlanStage{r.Drain, r.Return} {
		for _, stage := range stages {
			for _, m := range stage.Moves {
				how := modeWord(m.Mode)
				if m.Restart {
					how = "restart"
				}
				t.row(m.Pod, m.From, m.To, how, took(m.Blackout), m.Why)
			}
		}
	}
}
