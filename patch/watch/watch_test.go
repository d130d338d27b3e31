package watch_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"drydock/patch/watch"

	"github.com/google/go-cmp/cmp"
)

func TestEveryLineOfTheReportIsToldAndWhatIsWrittenIsLogged(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	if err := watch.Head(log, "before"); err != nil {
		t.Fatal(err)
	}
	var lines []string
	said, ran, err := watch.Run(exec.Command("sh", "-c", "echo one >&3; echo words; echo worse >&2; sleep 0.3; echo two >&3; exit 3"), dir, log,
		func(line string) { lines = append(lines, line) })
	if !ran || err == nil || said != "words\nworse\n" {
		t.Errorf("%v, %v, it said %q", ran, err, said)
	}
	if diff := cmp.Diff([]string{"one", "two"}, lines); diff != "" {
		t.Error(diff)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "report-*")); err != nil || len(left) != 0 {
		t.Error("left:", left, err)
	}
	if data, err := os.ReadFile(log); err != nil || len(data) <= len(said) {
		t.Errorf("the log holds %q, %v", data, err)
	}
	if _, ran, err := watch.Run(exec.Command("/nowhere"), dir, log, func(string) {}); ran || err == nil {
		t.Error("what is not there ran:", err)
	}
}
