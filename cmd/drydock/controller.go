package main

import (
	"github.com/spf13/cobra"

	"drydock/internal/config"
	"drydock/orchestrator"
)

// newControllerCommand runs a controller in the foreground.
func newControllerCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run a controller; see, add and remove others",
		Long: "Run a controller until it is told to stop. Settings come from the configuration file, DRYDOCK_* variables and flags, " +
			"the later before the earlier.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadController(file, cmd.Flags())
			if err != nil {
				return err
			}
			return orchestrator.Run(cmd.Context(), cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "config", "", "configuration file (YAML)")
	flags.String("name", "", "name, unique among the controllers of one store")
	flags.String("listen", "", "host:port for agents and operators")
	flags.String("socket", "", "unix socket for operators on this machine")
	flags.String("data-dir", "", "directory of the store and the certificates")
	flags.String("log-level", "", "debug, info, warn or error")
	flags.String("log-format", "", "text or json")
	cmd.AddCommand(newControllerList(a), newControllerJoin(a), newControllerRemove(a))
	return cmd
}
