package store

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.uber.org/zap"

	drydockv1 "drydock/api/drydock/v1"
)

// TestAStartNeverReplaysMoreThanIsKeptInMemory is for a fault of etcd: see snapshotCount.
func TestAStartNeverReplaysMoreThanIsKeptInMemory(t *testing.T) {
	const writers, writes = 64, 100
	dir := t.TempDir()
	s := open(t, dir)
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for range writes {
				if _, err := s.Txn().Put(fmt.Sprintf("/hosts/%d", writer), &drydockv1.HostRecord{Name: "h1"}).Commit(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	applied := s.etcd.Server.AppliedIndex()
	closeStore(t, s)
	newest, err := snap.New(zap.NewNop(), filepath.Join(etcdDir(dir), "member", "snap")).Load()
	if err != nil {
		t.Fatalf("%d entries were written and there is no snapshot: %v", applied, err)
	}
	if replayed := applied - newest.GetMetadata().GetIndex(); replayed >= catchUp {
		t.Errorf("a start replays %d entries, and %d are kept in memory", replayed, catchUp)
	}
	closeStore(t, open(t, dir))
}
