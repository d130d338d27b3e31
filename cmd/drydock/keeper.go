package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"drydock/migrate/keeper"
)

// newKeeperCommand is what an agent starts beside a pod that comes by post-copy; nobody types it.
func newKeeperCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "keeper DIR ARG...",
		Hidden: true,
		Args:   cobra.MinimumNArgs(2),
		// What follows are CRIU's arguments.
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			return keeper.Run(ctx, args[0], args[1:])
		},
	}
}
