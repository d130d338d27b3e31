package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newVersionCommand(a *app) *cobra.Command {
	clientOnly := false
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the controller",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.load(); err != nil {
				return err
			}
			document := map[string]any{"client": buildVersion()}
			var controller *v1.GetVersionResponse
			if !clientOnly {
				c, err := a.connect()
				if err != nil {
					return err
				}
				if controller, err = ask(cmd.Context(), c, c.GetVersion, &v1.GetVersionRequest{}); err != nil {
					return err
				}
				document["controller"] = message{controller}
			}
			return a.print(document, func(t *table) {
				t.field("Client", buildVersion())
				if controller != nil {
					t.field("Controller", controller.Version)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "only this program's: ask no controller")
	return cmd
}

// buildVersion is what the Go tool wrote into the binary: a tag, or a commit with its date.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
