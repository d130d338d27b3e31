package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestValuesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Txn().Put("/h", &drydockv1.HostRecord{Name: "h1"}).Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, dir)
	defer closeStore(t, s)
	item, err := Get[drydockv1.HostRecord](t.Context(), s, "/h")
	if err != nil || item.Value.GetName() != "h1" {
		t.Fatalf("got %v, %v", item.Value, err)
	}
	if _, err := Get[drydockv1.HostRecord](t.Context(), s, "/none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing value: %v", err)
	}
}

func TestASecondProcessCannotOpenTheSameDirectory(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer closeStore(t, s)
	if second, err := Open(t.Context(), Config{DataDir: dir}); err == nil {
		closeStore(t, second)
		t.Fatal("opened twice")
	}
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			_, err := Update(t.Context(), s, "/image", func(item Item[*drydockv1.ImageRecord]) error {
				item.Value.SizeBytes++
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	item, err := Get[drydockv1.ImageRecord](t.Context(), s, "/image")
	if err != nil || item.Value.GetSizeBytes() != 20 {
		t.Fatalf("got %v, %v", item.Value, err)
	}
}

func TestOnlyOneLeadsAndTermsGrow(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	first, err := s.Campaign(t.Context(), "/leader", Leader{Name: "a", Address: "x"})
	if err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Campaign(waiting, "/leader", Leader{Name: "b"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second leader: %v", err)
	}
	if leader, err := s.Leader(t.Context(), "/leader"); err != nil || leader.Name != "a" {
		t.Errorf("leader is %v, %v", leader, err)
	}
	// The first did not resign: its process died, and was started again.
	second, err := s.Campaign(t.Context(), "/leader", Leader{Name: "a", Address: "elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	<-first.Lost()
	if second.Revision() <= first.Revision() {
		t.Errorf("term %d follows %d", second.Revision(), first.Revision())
	}
	if err := second.Resign(); err != nil {
		t.Error(err)
	}
}

func TestARestoredBackupHasItsValuesAndHigherRevisions(t *testing.T) {
	s := open(t, t.TempDir())
	before, err := s.Txn().Put("/h", &drydockv1.HostRecord{Name: "h1"}).Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	file := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, backup.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Restore(file, dir, nil); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer closeStore(t, s)
	item, err := Get[drydockv1.HostRecord](t.Context(), s, "/h")
	if err != nil || item.Value.GetName() != "h1" {
		t.Fatalf("got %v, %v", item.Value, err)
	}
	after, err := s.Txn().Put("/h", item.Value).Commit(t.Context())
	if err != nil || after < before+revisionBump {
		t.Errorf("revision %d after %d, %v", after, before, err)
	}
}

func TestARestoreRefusesWhatIsNoBackupAndADirectoryInUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, []byte("no backup at all, but long enough to look at"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Restore(file, dir, nil); err == nil {
		t.Error("restored garbage")
	}
	s := open(t, dir)
	if err := Restore(file, dir, nil); err == nil {
		t.Error("restored into a running store")
	}
	closeStore(t, s)
	if err := Restore(file, dir, nil); err == nil {
		t.Error("restored over a store")
	}
}
