package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"drydock/lab"
)

func newLabStatusCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the labs of this machine, their hosts and services",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := lab.StatusAll()
			if err != nil {
				return err
			}
			return printAs(cmd.OutOrStdout(), format, all, func(w io.Writer) error { return labTable(w, all) })
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json or yaml")
	return cmd
}

func labTable(out io.Writer, all []lab.Status) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "LAB\tSTATE\tHOST\tUP\tPID\tADDRESS\tSERVICES")
	for _, l := range all {
		if len(l.Hosts) == 0 {
			fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t-\t-\n", l.Name, l.State)
		}
		for _, h := range l.Hosts {
			var services []string
			for _, s := range h.Services {
				services = append(services, fmt.Sprintf("%s %s (%d restarts)", s.Name, upOrDown(s.Up), s.Restarts))
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", l.Name, l.State, h.Name, upOrDown(h.Up), h.PID, h.Address, strings.Join(services, ", "))
		}
	}
	return w.Flush()
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
