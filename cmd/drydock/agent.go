package main

import (
	"github.com/spf13/cobra"

	"drydock/internal/agent"
	"drydock/internal/config"
)

// newAgentCommand runs the server of a host.
func newAgentCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run this host's agent",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadAgent(file, nil)
			if err != nil {
				return err
			}
			return agent.Run(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&file, "config", "/etc/drydock/agent.yaml", "the agent's configuration")
	return cmd
}
