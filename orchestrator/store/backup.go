package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
)

// revisionBump is added to every revision of a restored store: hosts refuse leadership revisions lower than the highest they
// have seen, and the store was used on after its backup.
const revisionBump = 1_000_000_000

// Backup writes a snapshot of the whole store: consistent, checksummed, and a secret, since the CA's key is in it.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	reader, err := s.client.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("take a snapshot of the store: %w", err)
	}
	_, err = io.Copy(w, reader)
	if err := errors.Join(err, reader.Close()); err != nil {
		return fmt.Errorf("take a snapshot of the store: %w", err)
	}
	return nil
}

// Restore makes the embedded store in dataDir from a backup. The controller must not run, and dataDir must hold no store.
func Restore(backup, dataDir string, log *slog.Logger) error {
	lock, err := lockDir(dataDir)
	if err != nil {
		return err
	}
	return errors.Join(restore(backup, dataDir, log), lock.release())
}

func restore(backup, dataDir string, log *slog.Logger) error {
	dir := etcdDir(dataDir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s holds a store already: move it away before restoring a backup", dir)
	}
	peers := make([]string, 0, 1)
	for _, peer := range memberURLs() {
		peers = append(peers, peer.String())
	}
	err := snapshot.NewV3(zapTo(log, new(atomic.Bool))).Restore(snapshot.RestoreConfig{
		SnapshotPath: backup, OutputDataDir: dir, Name: memberName, PeerURLs: peers,
		InitialCluster: initialCluster(), InitialClusterToken: "drydock",
		RevisionBump: revisionBump, MarkCompacted: true,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("restore %s: is it a backup of `drydock store backup`? %w", backup, err), os.RemoveAll(dir))
	}
	return nil
}
