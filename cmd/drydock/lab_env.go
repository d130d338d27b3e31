package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"drydock/lab"
)

func newLabEnvCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print shell exports that make commands talk to a lab: eval \"$(drydock lab env)\"",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(name)
			if err != nil {
				return err
			}
			for _, kv := range l.Env() {
				key, value, _ := strings.Cut(kv, "=")
				fmt.Fprintf(cmd.OutOrStdout(), "export %s='%s'\n", key, strings.ReplaceAll(value, "'", `'\''`))
			}
			return nil
		},
	}
	addLabName(cmd, &name)
	return cmd
}
