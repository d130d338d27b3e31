// Command drydock is the controller, the agent on every host, and the operator's command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"drydock/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err := newRootCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	var exit exitStatus
	if !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "drydock:", err)
		exit = 1
	}
	stop()
	os.Exit(int(exit))
}

// exitStatus ends the program with a status of its own, and without a word: what is to be said was said.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "drydock",
		Short:         "Move running pods between hosts, so that hosts can be patched",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newLabCommand(lab.Options{}))
	return root
}
