package main

import (
	"github.com/spf13/cobra"

	"drydock/pods/probe"
)

// newProbeCommand is what runs in the container with which an agent proves that its host can dump and restore; nobody types it.
func newProbeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "probe",
		Hidden: true,
		Args:   exactly(),
		RunE:   func(*cobra.Command, []string) error { return probe.Main() },
	}
}
