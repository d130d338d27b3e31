package migrate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"drydock/migrate/owner"
)

// journals keeps one owner.Journal per pod on the host's disk.
type journals struct{ dir string }

func (s journals) path(pod string) string { return filepath.Join(s.dir, pod+".json") }

func (s journals) load(pod string) (owner.Journal, error) { return owner.LoadJournal(s.path(pod)) }

func (s journals) save(j owner.Journal) error {
	err := j.Save(s.path(j.Pod))
	if errors.Is(err, syscall.ENOSPC) && os.Remove(s.reserved()) == nil {
		err = j.Save(s.path(j.Pod))
	}
	if err != nil {
		return fmt.Errorf("journal of pod %s: %w", j.Pod, err)
	}
	return nil
}

// reservation is room for the journals of a few migrations.
const reservation = 64 << 10

func (s journals) reserved() string { return filepath.Join(s.dir, "reserve") }

// reserve keeps room on the disk, so that a pod that has been committed to this host can still be journalled, and so run,
// when the disk becomes full afterwards.
func (s journals) reserve() error {
	if info, err := os.Stat(s.reserved()); err == nil && info.Size() == reservation {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(s.reserved(), make([]byte, reservation), 0o600); err != nil {
		return fmt.Errorf("reserve room for journals: %w", errors.Join(err, os.Remove(s.reserved())))
	}
	return nil
}

func (s journals) remove(pod string) error { return owner.RemoveJournal(s.path(pod)) }

// pods lists the pods that have a journal.
func (s journals) pods() ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var pods []string
	for _, path := range paths {
		pods = append(pods, strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	return pods, nil
}
