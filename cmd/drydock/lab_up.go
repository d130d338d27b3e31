package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"drydock/lab"
)

func newLabUpCommand(opts lab.Options) *cobra.Command {
	var updates string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring a lab up, and make it the one that commands talk to",
		Long: `Up makes hosts out of namespaces on this machine's kernel, each with its own containerd, CRIU and agent, a host for
each controller, and a switch between them. It installs mmdebstrap where that is missing, makes the hosts' root file
system once, and removes what an earlier lab of the same name left.

With --updates the hosts are made as Debian's last point release left them, and take packages through a caching proxy, which
alone reaches this machine's network. With mirror they lack what the mirror has published since, on some days nothing; with own
they lack newer builds of libc6 and iputils-ping, from a signed archive that the lab makes.

With --driver vm the hosts for pods are virtual machines with kernels of their own, and Drydock is installed in them from its
package, which make deb builds.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Progress = cmd.ErrOrStderr()
			var err error
			if opts.Updates, err = lab.ParseUpdates(updates); err != nil {
				return misuse(cmd, "%v", err)
			}
			l, err := lab.Up(cmd.Context(), opts)
			if errors.Is(err, lab.ErrRunning) {
				return &failure{status: statusRefused, message: err.Error()}
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "lab %s is up; `drydock lab down --name %s` removes it\n", l.Name(), l.Name())
			return nil
		},
	}
	addLabName(cmd, &opts.Name)
	cmd.Flags().IntVar(&opts.Hosts, "hosts", 3, "number of hosts for pods")
	cmd.Flags().IntVar(&opts.Controllers, "controllers", 1, "number of controllers; three outlive one of them")
	cmd.Flags().StringVar(&updates, "updates", "none", "what the hosts lack: none, mirror, own, or mirror,own")
	cmd.Flags().BoolVar(&opts.PortSecurity, "port-security", false, "make the switch carry one MAC of each host only, as clouds do")
	cmd.Flags().StringVar(&opts.Package, "package", "", "Drydock's Debian package, for virtual machines (default: the newest beside this program)")
	cmd.Flags().StringVar(&opts.Driver, "driver", lab.DriverNamespace, "what the hosts are made of: namespace or vm")
	cmd.Flags().StringSliceVar(&opts.Kernels, "kernel", nil, "Debian suites that virtual machines have their kernels from, in order, as bookworm,trixie-backports")
	return cmd
}
