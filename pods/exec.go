package pods

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
)

// Exec is a command that is run in a container.
type Exec struct {
	Container string
	Command   []string
	TTY       bool
	Stdin     io.Reader
	Stdout    io.Writer
	Stderr    io.Writer
	// Resize and Signals may be nil.
	Resize  <-chan [2]uint32
	Signals <-chan syscall.Signal
}

var execs atomic.Uint64

// Exec runs a command in a running container with the container's own restrictions, and returns its exit status. The
// command is killed when ctx ends.
func (r *Runtime) Exec(ctx context.Context, pod string, e Exec) (int, error) {
	ctx = r.context(ctx)
	task, err := r.task(ctx, pod, e.Container)
	if err != nil {
		return 0, err
	}
	spec, err := task.Spec(ctx)
	if err != nil {
		return 0, err
	}
	process := *spec.Process
	process.Args, process.Terminal = e.Command, e.TTY
	options := []cio.Opt{cio.WithStreams(e.Stdin, e.Stdout, e.Stderr)}
	if e.TTY {
		options = append(options, cio.WithTerminal)
	}
	id := fmt.Sprintf("exec-%d-%d", syscall.Getpid(), execs.Add(1))
	running, err := task.Exec(ctx, id, &process, cio.NewCreator(options...))
	if err != nil {
		return 0, fmt.Errorf("exec in container %s of pod %s: %w", e.Container, pod, err)
	}
	defer running.Delete(context.WithoutCancel(ctx), containerd.WithProcessKill)
	exited, err := running.Wait(ctx)
	if err != nil {
		return 0, err
	}
	if err := running.Start(ctx); err != nil {
		return 0, fmt.Errorf("exec in container %s of pod %s: %w", e.Container, pod, err)
	}
	for {
		select {
		case status := <-exited:
			running.IO().Wait()
			code, _, err := status.Result()
			return int(code), err
		case size := <-e.Resize:
			_ = running.Resize(ctx, size[0], size[1])
		case signal := <-e.Signals:
			_ = running.Kill(ctx, signal)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
