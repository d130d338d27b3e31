package main

import (
	"context"
	"net/url"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"drydock/internal/pki"
	"drydock/orchestrator/audit"
)

// addReason gives every command whose call is recorded the flag that says why.
func (a *app) addReason(root *cobra.Command) {
	for _, rule := range pki.ControllerPolicy() {
		if cmd := commandOf(root, rule.Verb); cmd != nil && cmd.Flags().Lookup("reason") == nil {
			cmd.Flags().StringVar(&a.reason, "reason", "", "why, for the record that `drydock events` shows")
		}
	}
}

// commandOf is the command that a verb of the record names, or nil: what hosts and controllers do has none.
func commandOf(root *cobra.Command, verb string) *cobra.Command {
	cmd, rest, err := root.Find(strings.Fields(verb))
	if verb == "" || err != nil || len(rest) > 0 {
		return nil
	}
	return cmd
}

// giveReason sends the reason with every call.
type giveReason struct{ reason string }

func (g giveReason) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		request.Header().Set(audit.ReasonHeader, url.QueryEscape(g.reason))
		return next(ctx, request)
	}
}

func (g giveReason) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set(audit.ReasonHeader, url.QueryEscape(g.reason))
		return conn
	}
}

func (g giveReason) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
