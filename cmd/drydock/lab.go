package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"drydock/lab"
)

// newLabCommand groups what makes and removes labs. Up starts from base, which holds what flags cannot say.
func newLabCommand(base lab.Options) *cobra.Command {
	cmd := newGroup("lab", "Hosts for trying and testing, on this machine",
		newLabUpCommand(base), newLabDownCommand(), newLabStatusCommand(), newLabExecCommand(), newLabResetCommand(), newLabEnvCommand())
	for _, name := range []string{"host-keeper", "host-init", "package-relay"} {
		cmd.AddCommand(&cobra.Command{
			Use:                name,
			Hidden:             true,
			DisableFlagParsing: true,
			RunE:               func(cmd *cobra.Command, args []string) error { return lab.HostMain(append([]string{name}, args...)) },
		})
	}
	return cmd
}

// addLabName gives cmd the flag that says which lab is meant.
func addLabName(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "name", "default", "the lab's name")
}

// printAs writes v as json or yaml, or calls table.
func printAs(w io.Writer, format string, v any, table func(io.Writer) error) error {
	switch format {
	case "table":
		return table(w)
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		return yaml.NewEncoder(w).Encode(v)
	}
	return &failure{status: statusMisuse, message: fmt.Sprintf("output format %q: use table, json or yaml", format)}
}
