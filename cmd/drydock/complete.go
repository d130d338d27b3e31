package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
	"drydock/internal/clictx"
)

// A shell waits for this while the operator looks at the cursor.
const completionTimeout = 2 * time.Second

// names finds what could be typed at a place.
type names func(context.Context, *app) ([]string, error)

// complete offers names for a flag of cmd.
func (a *app) complete(cmd *cobra.Command, flag string, find names) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.offer(c.Context(), find)
	})
	if err != nil {
		cobra.CompErrorln(err.Error()) // the flag does not exist; a test sees it
	}
}

// completeArgs offers names for the arguments, one finder for each, and files after the last.
func (a *app) completeArgs(finders ...names) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(finders) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.offer(c.Context(), finders[len(args)])
	}
}

func (a *app) offer(ctx context.Context, find names) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	found, err := find(ctx, a)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func fixed(words ...string) names {
	return func(context.Context, *app) ([]string, error) { return words, nil }
}

func contextNames(context.Context, *app) ([]string, error) {
	path, err := clictx.Path()
	if err != nil {
		return nil, err
	}
	file, err := clictx.Load(path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range file.Contexts {
		out = append(out, c.Name)
	}
	return out, nil
}

func podNames(ctx context.Context, a *app) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := ask(ctx, c, c.ListPods, &v1.ListPodsRequest{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range res.Pods {
		out = append(out, cobra.CompletionWithDesc(p.GetSpec().GetName(), phaseWord(p.Phase)+" on "+p.Host))
	}
	return out, nil
}

func hostNames(ctx context.Context, a *app) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := ask(ctx, c, c.ListHosts, &v1.ListHostsRequest{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range res.Hosts {
		out = append(out, cobra.CompletionWithDesc(h.Name, h.State))
	}
	return out, nil
}

func migrationIDs(ctx context.Context, a *app) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := ask(ctx, c, c.ListMigrations, &v1.ListMigrationsRequest{Limit: defaultMigrations})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range res.Migrations {
		out = append(out, cobra.CompletionWithDesc(m.Id, m.Pod+" to "+m.To))
	}
	return out, nil
}
