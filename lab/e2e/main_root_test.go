//go:build root

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"drydock/internal/clictx"
	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/rig"
)

const (
	labName = "e2e"
	// limit is how long anything may take before it counts as never happening. It is no promise about speed.
	limit     = 2 * time.Minute
	lookAgain = 50 * time.Millisecond
)

// bench is what the tests share: the lab, the program that operators type, and the images' archives.
type bench struct {
	*rig.Rig
	binary string
	images images.Set
}

var shared bench

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "drydock-e2e-")
	if err != nil {
		return complain(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv(clictx.EnvFile, filepath.Join(dir, "contexts.yaml")); err != nil {
		return complain(err)
	}
	shared, err = bringUp(dir)
	defer func() {
		if err := lab.Down(context.Background(), labName); err != nil && !errors.Is(err, lab.ErrNotFound) {
			complain(err)
		}
	}()
	if err != nil {
		return complain(err)
	}
	status := m.Run()
	if status != 0 {
		logs := filepath.Join("..", "..", "build", "test-life-logs")
		fmt.Fprintf(os.Stderr, "end-to-end tests: the hosts' logs are in %s\n", logs)
		if err := shared.KeepLogs(logs); err != nil {
			complain(err)
		}
	}
	return status
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "end-to-end tests:", err)
	return 1
}

// bringUp builds the program and makes a lab of three hosts that has the images.
func bringUp(dir string) (b bench, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	b.binary = filepath.Join(dir, "drydock")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "drydock/cmd/drydock")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return b, fmt.Errorf("build drydock: %w\n%s", err, out)
	}
	if b.images, err = images.Build(ctx, images.DefaultCache, os.Stderr); err != nil {
		return b, err
	}
	if b.Rig, err = rig.Up(ctx, lab.Options{Name: labName, Hosts: 3, Binary: b.binary}); err != nil {
		return b, err
	}
	return b, b.ImportImages(ctx, "h1", os.Stderr, "redis", "nginx", "workbench")
}
