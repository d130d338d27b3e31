package main

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"drydock/lab"
)

func newLabExecCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "exec HOST -- CMD [ARG...]",
		Short: "Run a command on a host, on a controller's (ctl, ctl2, ...), or in the client's network namespace",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || cmd.ArgsLenAtDash() != 1 {
				return misuse(cmd, "lab exec needs HOST, --, and a command, as in `drydock lab exec h1 -- ip address`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(name)
			if err != nil {
				return err
			}
			c := l.Exec(cmd.Context(), args[0], args[1:]...)
			c.Stdin, c.Stdout, c.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return passOn(c.Run())
		},
	}
	addLabName(cmd, &name)
	return cmd
}

// passOn makes a command's exit status this program's own, as a shell does.
func passOn(err error) error {
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return err
	}
	if ws, ok := ended.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitStatus(128 + int(ws.Signal()))
	}
	if ended.ExitCode() < 0 {
		return fmt.Errorf("run the command: %w", err)
	}
	return exitStatus(ended.ExitCode())
}
