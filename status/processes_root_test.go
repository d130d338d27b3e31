//go:build root

package status

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
)

func TestAProgramThatWasReplacedWhileItRunsIsFound(t *testing.T) {
	dir, err := os.MkdirTemp("/var/lib", "replaced-") // what runs from /tmp is not a package's
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "cat")
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if _, err := in.Write([]byte("x")); err != nil { // once it has answered, it runs
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	find := func() bool {
		// Other processes of this machine may end while they are looked at; they are not asked for here.
		stale, _ := staleProcesses(context.Background(), "/proc", PodsBelow("/drydock"))
		return slices.ContainsFunc(stale, func(p *drydockv1.StaleProcess) bool {
			return int(p.Pid) == cmd.Process.Pid && slices.Equal(p.Files, []string{program})
		})
	}
	if find() {
		t.Error("found before it was replaced")
	}
	if err := os.WriteFile(program+".new", data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(program+".new", program); err != nil {
		t.Fatal(err)
	}
	if !find() {
		t.Error("not found after it was replaced")
	}
}
