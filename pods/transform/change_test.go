package transform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/internal/faultpoint"
)

// changeIn is a change whose specification is a file, and whose program leaves no process.
func changeIn(dir string) Change {
	stop := faultpoint.In(filepath.Join(dir, "faults"), slog.New(slog.DiscardHandler))
	return Change{
		Volumes: filepath.Join(dir, "volumes", "shop"), Work: filepath.Join(dir, "volumes", ".shop"), Journal: filepath.Join(dir, "journal.json"),
		Install: func(_ context.Context, spec json.RawMessage) error {
			return os.WriteFile(filepath.Join(dir, "spec"), spec, 0o600)
		},
		End: func(context.Context) error { return nil },
		At:  stop,
	}
}

// order writes v2 into every volume in which v1 stands.
func order(id string) Order {
	return Order{ID: id, From: []byte(`"v1"`), To: []byte(`"v2"`), Run: func(_ context.Context, volumes string) error {
		data, err := os.ReadFile(filepath.Join(volumes, "data", "orders"))
		if err != nil || string(data) != "v1" {
			return fmt.Errorf("found %q: %w", data, err)
		}
		return errors.Join(os.WriteFile(filepath.Join(volumes, "data", "orders"), []byte("v2"), 0o640), os.Symlink("orders", filepath.Join(volumes, "data", "latest")))
	}}
}

func newPod(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, made := range []string{"volumes/shop/data", "faults"} {
		if err := os.MkdirAll(filepath.Join(dir, made), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "volumes/shop/data/orders"), "v1")
	write(t, filepath.Join(dir, "spec"), `"v1"`)
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// state is everything that lies in a pod's directories.
func state(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		found[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func isIn(t *testing.T, dir, version string) {
	t.Helper()
	want := map[string]string{"spec": `"` + version + `"`, "volumes/shop/data/orders": version}
	if diff := cmp.Diff(want, state(t, dir)); diff != "" {
		t.Errorf("not as a pod of %s (-want +got):\n%s", version, diff)
	}
}

func TestAPodIsChangedAndSettled(t *testing.T) {
	dir := newPod(t)
	c := changeIn(dir)
	for range 2 { // asked again it does nothing more
		if err := c.Do(t.Context(), order("u1")); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := c.Settle(t.Context(), "u1"); err != nil {
			t.Fatal(err)
		}
	}
	isIn(t, dir, "v2")
}

func TestAPodIsChangedAndTakenBack(t *testing.T) {
	dir := newPod(t)
	c := changeIn(dir)
	if err := c.Do(t.Context(), order("u1")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Revert(t.Context(), "u1"); err != nil {
			t.Fatal(err)
		}
	}
	isIn(t, dir, "v1")
}

func TestAProgramThatFailsLeavesTheOldState(t *testing.T) {
	dir := newPod(t)
	o := order("u1")
	run := o.Run
	o.Run = func(ctx context.Context, volumes string) error {
		return errors.Join(run(ctx, volumes), errors.New("no such column"))
	}
	if err := changeIn(dir).Do(t.Context(), o); err == nil {
		t.Error("no error")
	}
	isIn(t, dir, "v1")
}

func TestWithoutAProgramTheVolumesStay(t *testing.T) {
	dir := newPod(t)
	o := order("u1")
	o.Run = nil
	if err := changeIn(dir).Do(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "volumes/shop/data/orders"), "written by the new program")
	if err := changeIn(dir).Revert(t.Context(), "u1"); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"spec": `"v1"`, "volumes/shop/data/orders": "written by the new program"}
	if diff := cmp.Diff(want, state(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheNextUpgradeEndsWhatAnotherHasLeft(t *testing.T) {
	dir := newPod(t)
	if err := changeIn(dir).Do(t.Context(), order("u1")); err != nil {
		t.Fatal(err)
	}
	next := Order{ID: "u2", From: []byte(`"v2"`), To: []byte(`"v3"`), Run: func(_ context.Context, volumes string) error {
		return os.WriteFile(filepath.Join(volumes, "data", "orders"), []byte("v3"), 0o640)
	}}
	if err := changeIn(dir).Do(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if err := changeIn(dir).Settle(t.Context(), "u2"); err != nil {
		t.Fatal(err)
	}
	isIn(t, dir, "v3")
}

func TestWhatIsSettledIsNotTakenBack(t *testing.T) {
	dir := newPod(t)
	c := changeIn(dir)
	if err := c.Do(t.Context(), order("u1")); err != nil {
		t.Fatal(err)
	}
	if err := c.save(journal{ID: "u1", Stage: settled}); err != nil {
		t.Fatal(err)
	}
	if err := c.Revert(t.Context(), "u1"); err == nil {
		t.Error("no error")
	}
	if err := c.Settle(t.Context(), "u1"); err != nil {
		t.Fatal(err)
	}
	isIn(t, dir, "v2")
}

// killed is what the test's own program does where it is started by itself, to be killed.
const killed = "DRYDOCK_TEST_TRANSFORM_IN"

func TestMain(m *testing.M) {
	dir := os.Getenv(killed)
	if dir == "" {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	err := changeIn(dir).Do(ctx, order("u1"))
	switch os.Getenv(killed + "_THEN") {
	case "revert":
		err = errors.Join(err, changeIn(dir).Revert(ctx, "u1"))
	case "settle":
		err = errors.Join(err, changeIn(dir).Settle(ctx, "u1"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// killAt runs a change in a process of its own, and kills it where it stands at a point.
func killAt(t *testing.T, dir, then, point string) {
	t.Helper()
	file := filepath.Join(dir, "faults", point)
	write(t, file, "")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killed+"="+dir, killed+"_THEN="+then)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := os.Stat(file + ".reached"); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("it never came to %s: %v", point, err)
		case <-time.After(time.Millisecond):
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := os.Remove(file + ".reached"); err != nil {
		t.Fatal(err)
	}
}

func TestAKillAtAnyInstantIsRedoneOrUndone(t *testing.T) {
	for then, points := range map[string][]string{
		"": {
			"transform-begun", "transform-copied", "transform-ran", "transform-synced", "transform-committed", "transform-aside",
			"transform-placed", "transform-installed",
		},
		"revert": {"revert-decided", "revert-aside", "revert-placed", "revert-installed"},
	} {
		for _, point := range points {
			t.Run(point+" undone", func(t *testing.T) {
				dir := newPod(t)
				killAt(t, dir, then, point)
				if err := changeIn(dir).Revert(t.Context(), "u1"); err != nil {
					t.Fatal(err)
				}
				isIn(t, dir, "v1")
			})
			t.Run(point+" redone", func(t *testing.T) {
				dir := newPod(t)
				killAt(t, dir, then, point)
				c := changeIn(dir)
				if then == "revert" { // what was decided holds: it is taken back first
					if err := c.Finish(t.Context()); err != nil {
						t.Fatal(err)
					}
					isIn(t, dir, "v1")
				}
				if err := errors.Join(c.Do(t.Context(), order("u1")), c.Settle(t.Context(), "u1")); err != nil {
					t.Fatal(err)
				}
				isIn(t, dir, "v2")
			})
		}
	}
}

func TestAKillWhileItIsSettledLeavesTheNewState(t *testing.T) {
	for _, point := range []string{"settle-decided", "transform-cleaned"} {
		dir := newPod(t)
		killAt(t, dir, "settle", point)
		if point == "transform-cleaned" { // the first cleaning is before the copy
			if err := changeIn(dir).Do(t.Context(), order("u1")); err != nil {
				t.Fatal(err)
			}
		}
		if err := changeIn(dir).Settle(t.Context(), "u1"); err != nil {
			t.Fatal(err)
		}
		isIn(t, dir, "v2")
	}
}
