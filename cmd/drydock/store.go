package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
	"drydock/orchestrator/store"
)

func newStoreCommand(a *app) *cobra.Command {
	return newGroup("store", "The controller's store", newStoreBackup(a), newStoreRestore(a, store.Restore))
}

func newStoreBackup(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup of the store to a file, which keeps its old content until the new one is whole",
		Args:  exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			written, err := a.backup(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			result := map[string]any{"file": args[0], "bytes": written}
			return a.print(result, func(t *table) { t.line("%s: %s", args[0], orZero(written)) })
		},
	}
}

// backup writes the store to path, readable by its owner only: it holds secrets.
func (a *app) backup(ctx context.Context, c *client, path string) (written int64, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return 0, &failure{status: statusMisuse, message: fmt.Sprintf("backup to %s: %v", path, rootCause(err))}
	}
	defer os.Remove(file.Name())
	show := a.newProgress()
	err = follow(ctx, c.BackupStore, &v1.BackupStoreRequest{}, func(m *v1.BackupStoreResponse) error {
		n, err := file.Write(m.Data)
		written += int64(n)
		show.update(path, &v1.MigrationProgress{Step: "backup", Bytes: written})
		return err
	})
	show.close()
	if err == nil && written == 0 {
		err = errors.New("backup: the controller sent nothing")
	}
	closed := errors.Join(file.Sync(), file.Close())
	if err != nil {
		return 0, err
	}
	if err := errors.Join(closed, os.Rename(file.Name(), path), durable.SyncDir(filepath.Dir(path))); err != nil {
		return 0, fmt.Errorf("backup: %w", err)
	}
	return written, nil
}
