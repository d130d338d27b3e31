package main

import (
	"context"
	"net/url"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"drydock/orchestrator"
)

// changing are the commands that change something: what is recorded of them can say why.
func changing() [][]string {
	return [][]string{
		{"image", "import"}, {"image", "pull"},
		{"pod", "run"}, {"pod", "start"}, {"pod", "stop"}, {"pod", "rm"}, {"pod", "exec"}, {"migrate"},
		{"host", "join"}, {"host", "drain"}, {"host", "resume"}, {"host", "confirm-dead"}, {"host", "rm"},
		{"user", "add"}, {"user", "rm"}, {"store", "backup"},
	}
}

// addReason gives every changing command below root the flag that says why.
func (a *app) addReason(root *cobra.Command) {
	for _, path := range changing() {
		if cmd, _, err := root.Find(path); err == nil {
			cmd.Flags().StringVar(&a.reason, "reason", "", "why, for the record that `drydock events` shows")
		}
	}
}

// giveReason sends the reason with every call.
type giveReason struct{ reason string }

func (g giveReason) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		request.Header().Set(orchestrator.ReasonHeader, url.QueryEscape(g.reason))
		return next(ctx, request)
	}
}

func (g giveReason) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set(orchestrator.ReasonHeader, url.QueryEscape(g.reason))
		return conn
	}
}

func (g giveReason) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
