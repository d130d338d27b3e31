package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/shim/chain"
	"drydock/shim/process"
	"drydock/shim/proxy"
)

func newShimTrace(s *shims) *cobra.Command {
	var prefix string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "trace POD",
		Short: "Show the next call before and after each translator",
		Args:  exactly("POD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait <= 0 {
				return misuse(cmd, "--wait %s: must be more than 0", wait)
			}
			if s.dir == "" {
				return s.app.tracePodShim(cmd, args[0], prefix, wait)
			}
			return s.ask(cmd.Context(), args[0], func(_ context.Context, c process.Client) error {
				trace, err := c.Trace(cmd.Context(), prefix, wait)
				var refused *process.RefusedError
				if errors.As(err, &refused) && refused.Status == http.StatusGatewayTimeout {
					return noCall(args[0], refused.Text)
				}
				if err != nil {
					return err
				}
				return s.app.print(trace, func(t *table) { showTrace(t, trace) })
			})
		},
	}
	cmd.Flags().StringVar(&prefix, "path", "", "only a call whose path begins so")
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "longest wait for a call, and for its end")
	return cmd
}

func showTrace(t *table, trace proxy.Trace) {
	t.line("%s %s", trace.Method, trace.Path)
	t.field("Client", trace.Client)
	t.field("Server", trace.Server)
	switch {
	case trace.Error != "":
		t.field("Answer", trace.Error)
	case trace.Status != 0:
		t.field("Answer", fmt.Sprintf("status %d after %s", trace.Status, trace.Took.Round(time.Microsecond)))
	}
	if trace.Cut {
		t.field("Cut", "the call went on")
	}
	for _, p := range trace.Passages {
		t.line("")
		if strings.HasPrefix(p.Part, "answer") {
			p.From, p.To = p.To, p.From
		}
		t.line("%s, %s > %s, %s", p.Part, p.From, p.To, p.Took.Round(100*time.Nanosecond))
		showView(t, "-", p.Before)
		showView(t, "+", p.After)
		if p.Refused != "" {
			t.line("  refused: %s", p.Refused)
		}
	}
}

// showView is one side of a translator, in the manner of a diff.
func showView(t *table, sign string, v chain.View) {
	if v.Method != "" {
		t.line("  %s %s %s", sign, v.Method, v.Path)
	}
	if v.Status != 0 {
		t.line("  %s status %d", sign, v.Status)
	}
	var names []string
	for name := range v.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.line("  %s %s: %s", sign, name, strings.Join(v.Header[name], ", "))
	}
	if len(v.Body) > 0 {
		t.line("  %s %s", sign, v.Body)
	}
}
