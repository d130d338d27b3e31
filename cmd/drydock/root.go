package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"drydock/lab"
	"drydock/lab/rig"
)

// newRootCommand returns drydock with all its commands. The command is built anew for each invocation.
func newRootCommand(a *app) *cobra.Command {
	cmd := newGroup("drydock", "Patch a pool of Linux hosts while their pods run on")
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetIn(a.stdin)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return misuse(c, "%v", err)
	})
	a.addGlobalFlags(cmd)
	cmd.AddCommand(
		newImageCommand(a),
		newPodCommand(a),
		newMigrateCommand(a),
		newMigrationCommand(a),
		newHostCommand(a),
		newStatusCommand(a),
		newPoolCommand(a),
		newPlanCommand(a),
		newPatchCommand(a),
		newRolloutCommand(a),
		newServiceCommand(a),
		newUpgradeCommand(a),
		newShimCommand(a),
		newStoreCommand(a),
		newUserCommand(a),
		newEventsCommand(a),
		newConfigCommand(a),
		newVersionCommand(a),
		newLabCommand(lab.Options{Join: rig.Join, WaitReady: rig.Ready}),
		newControllerCommand(a),
		newAgentCommand(),
		newKeeperCommand(),
		newManPagesCommand(),
		newInstallerCommand(),
		newProbeCommand(),
	)
	a.addReason(cmd)
	return cmd
}

// newGroup returns a command that only holds others. Without one of them it shows its help; with an unknown one it says
// what comes nearest.
func newGroup(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			c.SuggestionsMinimumDistance = 2
			err := misuse(c, "unknown command %q for %q", args[0], c.CommandPath())
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				err.remedies = append([]string{"did you mean " + strings.Join(near, " or ") + "?"}, err.remedies...)
			}
			return err
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// exactly refuses anything but the named arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return between(len(names), names...)
}

// between refuses fewer than least arguments and more than those named.
func between(least int, names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return misuse(c, "%s needs %s", commandName(c), strings.Join(names[len(args):least], " and "))
		case len(args) > len(names):
			return misuse(c, "%s does not take %q", commandName(c), args[len(names)])
		}
		return nil
	}
}

// commandName is what the operator typed, without the program.
func commandName(c *cobra.Command) string {
	return strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
}

// misuse is a command line that says nothing that could be done.
func misuse(c *cobra.Command, format string, args ...any) *failure {
	return &failure{
		status:   statusMisuse,
		message:  fmt.Sprintf(format, args...),
		remedies: []string{fmt.Sprintf("see `%s --help`", c.CommandPath())},
	}
}
