package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManPagesCommand is what the making of the Debian package calls; nobody types it.
func newManPagesCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man-pages DIR",
		Hidden: true,
		Args:   exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Source: "Drydock", Manual: "Drydock"}
			return doc.GenManTree(root, header, args[0])
		},
	}
}
