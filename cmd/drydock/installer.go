package main

import (
	"context"

	"github.com/spf13/cobra"

	"drydock/internal/agent"
)

// newInstallerCommand is what an agent starts to work on packages; nobody types it. It is not ended by what ends the agent.
func newInstallerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "installer DIR",
		Hidden: true,
		Args:   exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			return agent.RunInstaller(context.Background(), args[0])
		},
	}
}
