package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"drydock/lab"
)

func newLabResetCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "reset HOST",
		Short: "Press the reset button of a virtual machine",
		Long: `Reset ends what a virtual machine of a lab does, whatever state it is in, and returns once it begins to boot anew. The pool of a
lab fences its hosts with it. In place of the host's name it takes the path of the machine's QEMU monitor.`,
		Args: exactly("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if filepath.IsAbs(args[0]) {
				return lab.Reset(cmd.Context(), args[0])
			}
			l, err := lab.Open(name)
			if err != nil {
				return err
			}
			return l.ResetHost(cmd.Context(), args[0])
		},
	}
	addLabName(cmd, &name)
	return cmd
}
