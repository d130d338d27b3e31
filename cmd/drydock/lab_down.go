package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"drydock/lab"
)

func newLabDownCommand() *cobra.Command {
	var name string
	var all bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove a lab and everything that it left on this machine",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{name}
			if all {
				var err error
				if names, err = lab.List(); err != nil {
					return err
				}
			}
			var errs []error
			for _, n := range names {
				err := lab.Down(cmd.Context(), n)
				if err == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "lab %s is down\n", n)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	addLabName(cmd, &name)
	cmd.Flags().BoolVar(&all, "all", false, "remove every lab of this machine")
	cmd.MarkFlagsMutuallyExclusive("name", "all")
	return cmd
}
