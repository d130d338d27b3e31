package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newRolloutCommand(a *app) *cobra.Command {
	return newGroup("rollout", "Rollouts, running and past", newRolloutList(a), newRolloutShow(a), newRolloutWatch(a),
		newRolloutPause(a), newRolloutResume(a), newRolloutAbort(a), newRolloutApprove(a))
}

const defaultRollouts = 20

func newRolloutList(a *app) *cobra.Command {
	req := &v1.ListRolloutsRequest{}
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List rollouts, the latest first",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Limit < 0 {
				return misuse(cmd, "limit %d: must be 0 for all, or more", req.Limit)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListRollouts, req)
			if err != nil {
				return err
			}
			return a.print(messages(res.Rollouts), func(t *table) {
				t.row("ID", "POOL", "STATE", "HOSTS", "FAILED", "STARTED BY", "AGE", "REASON")
				for _, r := range res.Rollouts {
					t.row(r.Id, r.Pool, stateOfRollout(r.State), fmt.Sprintf("%d/%d", r.HostsPatched, r.HostsTotal), fmt.Sprint(r.HostsFailed),
						r.StartedBy, a.age(r.Started), r.Reason)
				}
			})
		},
	}
	cmd.Flags().StringVar(&req.Pool, "pool", "", "only those of this pool")
	cmd.Flags().Int32Var(&req.Limit, "limit", defaultRollouts, "how many at most; 0 is all")
	a.complete(cmd, "pool", poolNames)
	return cmd
}

func newRolloutShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show a rollout: every host and step, every move, and why",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeArgs(rolloutIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.GetRollout, &v1.GetRolloutRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.print(message{res.Rollout}, func(t *table) {
				a.rolloutTables(t, res.Rollout)
				problemsSection(t, res.Rollout.Problems)
				if next := goOn(res.Rollout); next != "" {
					t.section("Then " + next)
				}
			})
		},
	}
}

// goOn is what an operator can tell a rollout that rests; empty where it does not.
func goOn(r *v1.Rollout) string {
	switch r.State {
	case v1.RolloutState_ROLLOUT_STATE_STOPPED, v1.RolloutState_ROLLOUT_STATE_PAUSED:
		return "go on with `drydock rollout resume " + r.Id + "`, or end it with `drydock rollout abort " + r.Id + "`"
	}
	return ""
}

func newRolloutWatch(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "watch ID",
		Short:             "Follow a rollout until it has ended, stopped or is paused",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeArgs(rolloutIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.watchRollout(cmd.Context(), c, args[0])
		},
	}
}

// order is a command that tells a rollout something and reports that in one line.
func order(a *app, use, short, action string, tell func(context.Context, *client, []string) error, names ...string) *cobra.Command {
	return &cobra.Command{
		Use:               use + " " + strings.Join(names, " "),
		Short:             short,
		Args:              exactly(names...),
		ValidArgsFunction: a.completeArgs(rolloutIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := tell(cmd.Context(), c, args); err != nil {
				return err
			}
			return a.done("rollout", args[0], action)
		},
	}
}

// told makes the call of an order.
func told[Req, Res any](ctx context.Context, c *client, call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) error {
	_, err := ask(ctx, c, call, req)
	return err
}

func newRolloutPause(a *app) *cobra.Command {
	return order(a, "pause", "Hold a rollout after the step that it is in", "is paused after this step", func(ctx context.Context, c *client, args []string) error {
		return told(ctx, c, c.PauseRollout, &v1.PauseRolloutRequest{Id: args[0]})
	}, "ID")
}

func newRolloutResume(a *app) *cobra.Command {
	return order(a, "resume", "Go on with a rollout that is paused or has stopped", "goes on", func(ctx context.Context, c *client, args []string) error {
		return told(ctx, c, c.ResumeRollout, &v1.ResumeRolloutRequest{Id: args[0]})
	}, "ID")
}

func newRolloutAbort(a *app) *cobra.Command {
	return order(a, "abort", "End a rollout after the step that it is in, and open its hosts that are whole", "is aborted after this step", func(ctx context.Context, c *client, args []string) error {
		return told(ctx, c, c.AbortRollout, &v1.AbortRolloutRequest{Id: args[0]})
	}, "ID")
}

func newRolloutApprove(a *app) *cobra.Command {
	return order(a, "approve", "Let a rollout through a gate that waits for an operator", "is approved", func(ctx context.Context, c *client, args []string) error {
		return told(ctx, c, c.ApproveGate, &v1.ApproveGateRequest{Rollout: args[0], Gate: args[1]})
	}, "ID", "GATE")
}

func rolloutIDs(ctx context.Context, a *app) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := ask(ctx, c, c.ListRollouts, &v1.ListRolloutsRequest{Limit: defaultRollouts})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range res.Rollouts {
		out = append(out, cobra.CompletionWithDesc(r.Id, r.Pool+", "+stateOfRollout(r.State)))
	}
	return out, nil
}

func stateOfRollout(s v1.RolloutState) string    { return word(s.String(), "ROLLOUT_STATE_") }
func hostStateWord(s v1.RolloutHostState) string { return word(s.String(), "ROLLOUT_HOST_STATE_") }

// rolloutTables show a rollout, without its problems: those are said on stderr where it was waited for.
func (a *app) rolloutTables(t *table, r *v1.Rollout) {
	t.field("Rollout", r.Id)
	t.field("Pool", r.Pool)
	t.field("State", joinWords(stateOfRollout(r.State), parenthesised(r.Reason)))
	t.field("Until", moment(r.Until))
	t.field("Started", joinWords(moment(r.Started), "by "+r.StartedBy))
	t.field("Ended", moment(r.Ended))
	t.field("Hosts", fmt.Sprintf("%d of %d patched, %d failed", r.HostsPatched, r.HostsTotal, r.HostsFailed))
	t.field("Step", r.Step)
	if len(r.Hosts) > 0 {
		t.section("", "HOST", "STATE", "STEP", "PACKAGES", "REBOOT", "TOOK")
	}
	for _, h := range r.Hosts {
		var all time.Duration
		for _, s := range h.Steps {
			all += s.GetTook().AsDuration()
		}
		t.row(h.Host, hostStateWord(h.State), h.Step, pins(h.Patch), cmp.Or(h.RebootKind, "none"), duration(all))
	}
	if len(r.Moves) > 0 {
		t.section("", "POD", "FROM", "TO", "MODE", "OUTCOME", "FREEZE", "MIGRATION")
	}
	for _, m := range r.Moves {
		t.row(m.Pod, m.From, m.To, modeWord(m.Mode), word(m.Outcome.String(), "MIGRATION_OUTCOME_"), took(m.Freeze), m.Migration)
	}
	skippedSection(t, r.Skipped)
	warningsSection(t, r.Hosts)
}

// warningsSection says what may reboot hosts besides Drydock.
func warningsSection(t *table, hosts []*v1.RolloutHost) {
	heading := "Warnings"
	for _, h := range hosts {
		for _, w := range h.Warnings {
			if heading != "" {
				t.section(heading)
				heading = ""
			}
			t.line("  - host %s: %s; remedy: %s", h.Host, w.Reason, w.Remedy)
		}
	}
}

func problemsSection(t *table, problems []*v1.Refusal) {
	if len(problems) == 0 {
		return
	}
	t.section("Problems")
	for _, p := range problems {
		t.line("  - %s; remedy: %s", p.Reason, p.Remedy)
	}
}

// pins are the packages of a patch as package managers take them, the first few.
func pins(p *v1.Patch) string {
	const few = 3
	var names []string
	for i, pkg := range p.GetPackages() {
		if i == few {
			names = append(names, fmt.Sprintf("and %d more", len(p.Packages)-few))
			break
		}
		names = append(names, pkg.Name+"="+pkg.To)
	}
	return strings.Join(names, " ")
}
