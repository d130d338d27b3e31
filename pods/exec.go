package pods

import (
	"context"
	"fmt"
	"io"
	"sync"
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
	stdin := &ending{Reader: e.Stdin, ended: make(chan struct{})}
	options := []cio.Opt{cio.WithStreams(stdin, e.Stdout, e.Stderr)}
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
	ended := stdin.ended
	for {
		select {
		case <-ended:
			// The shim keeps the FIFO open, so the command sees the end of its input only when the shim is told of it.
			_ = running.CloseIO(ctx, containerd.WithStdinCloser)
			ended = nil
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

// ending is an input that tells when it has ended. What it gave before has then been passed on.
type ending struct {
	io.Reader
	once  sync.Once
	ended chan struct{}
}

func (r *ending) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		r.once.Do(func() { close(r.ended) })
	}
	return n, err
}
