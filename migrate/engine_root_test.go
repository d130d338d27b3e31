//go:build root

package migrate

import (
	"log/slog"
	"os"
	"testing"

	"drydock/migrate/owner"
)

func TestAnAgentThatStartsKeepsTheDirectoriesOfMigrationsThatItsJournalsNameAndNoOthers(t *testing.T) {
	e := New(Config{DataDir: t.TempDir(), RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err := e.sweepDirs(nil); err != nil {
		t.Errorf("before the first migration: %v", err)
	}
	for _, migration := range []string{"wanted", "over"} {
		if _, err := e.makeDir(migration); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.removeDir(migration) })
	}
	if err := e.journals.save(owner.Journal{Pod: "db", Side: owner.Destination, Stage: owner.Received, Migration: "wanted"}); err != nil {
		t.Fatal(err)
	}
	if err := e.sweepDirs([]string{"db"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(e.dir("wanted")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(e.dir("over")); !os.IsNotExist(err) {
		t.Errorf("the directory of the migration that is over: %v", err)
	}
}
