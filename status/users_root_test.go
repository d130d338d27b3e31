//go:build root

package status

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPodsThatRunAFileAreNamedWhateverItIsCalledThere(t *testing.T) {
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	here, there := filepath.Join(dir, "library"), filepath.Join(dir, "elsewhere")
	if err := os.WriteFile(here, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(here, there); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(there)
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
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it runs now
		t.Fatal(err)
	}
	// A /proc with nothing but it in it.
	proc, pid := t.TempDir(), strconv.Itoa(cmd.Process.Pid)
	if err := os.Symlink("/proc/"+pid, filepath.Join(proc, pid)); err != nil {
		t.Fatal(err)
	}
	web := func([]string) string { return "web" }
	for name, test := range map[string]struct {
		files []string
		pod   Pod
		want  []string
	}{
		"a file that one runs":          {[]string{"/nowhere", dir, here}, web, []string{"web"}},
		"a file that only the host has": {[]string{here}, func([]string) string { return "" }, nil},
		"a file that nothing runs":      {[]string{filepath.Join(dir, "other")}, web, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "nothing") {
				if err := os.WriteFile(test.files[0], nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := PodsUsing(context.Background(), proc, test.files, test.pod)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, err := PodsUsing(context.Background(), proc, []string{here}, web); len(got) != 0 || err != nil {
		t.Error("it has ended:", got, err)
	}
}
