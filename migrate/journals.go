package migrate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"drydock/migrate/owner"
)

// journals keeps one owner.Journal per pod on the host's disk.
type journals struct{ dir string }

func (s journals) path(pod string) string { return filepath.Join(s.dir, pod+".json") }

func (s journals) load(pod string) (owner.Journal, error) { return owner.LoadJournal(s.path(pod)) }

func (s journals) save(j owner.Journal) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := j.Save(s.path(j.Pod)); err != nil {
		return fmt.Errorf("journal of pod %s: %w", j.Pod, err)
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
