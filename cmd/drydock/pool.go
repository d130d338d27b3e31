package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newPoolCommand(a *app) *cobra.Command {
	return newGroup("pool", "Pools that are in force", newPoolList(a))
}

func newPoolList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the pools in force, and what is wrong with their files",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListPools, &v1.ListPoolsRequest{})
			if err != nil {
				return err
			}
			document := map[string]any{"pools": messages(res.Pools), "faults": messages(res.Faults)}
			return a.print(document, func(t *table) { a.poolTable(t, res) })
		},
	}
}

func (a *app) poolTable(t *table, res *v1.ListPoolsResponse) {
	t.row("POOL", "HOSTS", "SCHEDULE", "WINDOW", "ROLLOUT", "LAST STARTED", "PROBLEM")
	for _, p := range res.Pools {
		t.row(p.Name, strings.Join(p.Hosts, " "), p.Schedule, windowCell(p), p.Rollout, a.age(p.LastStarted), p.Problem)
	}
	if len(res.Faults) > 0 {
		t.section("Faults")
		for _, f := range res.Faults {
			t.line("  - %s", strings.ReplaceAll(f.Fault, "\n", "\n    "))
		}
	}
}

func windowCell(p *v1.Pool) string {
	switch {
	case p.Open && p.Until == nil:
		return "always open"
	case p.Open:
		return "open until " + moment(p.Until)
	case p.Until == nil:
		return "never opens"
	}
	return "closed until " + moment(p.Until)
}

func poolNames(ctx context.Context, a *app) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := ask(ctx, c, c.ListPools, &v1.ListPoolsRequest{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range res.Pools {
		out = append(out, cobra.CompletionWithDesc(p.Name, strings.Join(p.Hosts, " ")))
	}
	return out, nil
}
