package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
)

// restoreFunc makes a controller's store in dataDir from a backup.
type restoreFunc func(backup, dataDir string, log *slog.Logger) error

// newStoreRestore is the one command that works on files instead of asking a controller, which must not run.
func newStoreRestore(a *app, restore restoreFunc) *cobra.Command {
	dataDir := ""
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIR",
		Short: "Make the store of a controller that does not run from a backup",
		Args:  exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dataDir == "" {
				return misuse(cmd, "store restore needs --data-dir DIR, the controller's")
			}
			if err := a.load(); err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			if err := restore(args[0], dataDir, log); err != nil {
				return fmt.Errorf("store restore: %w", err)
			}
			return a.print(map[string]string{"file": args[0], "dataDir": dataDir}, func(t *table) {
				t.line("restored %s into %s; start the controller there", args[0], dataDir)
			})
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "the controller's data directory, which must hold no store")
	return cmd
}
