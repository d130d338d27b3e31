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
	"github.com/opencontainers/runtime-spec/specs-go"
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
	running, err := sealing(ctx, func() (*command, error) { return startCommand(ctx, task, &process, e) })
	if err != nil {
		return 0, fmt.Errorf("exec in container %s of pod %s: %w", e.Container, pod, err)
	}
	defer running.Delete(context.WithoutCancel(ctx), containerd.WithProcessKill)
	ended := running.stdin.ended
	for {
		select {
		case <-ended:
			// The shim keeps the FIFO open, so the command sees the end of its input only when the shim is told of it.
			_ = running.CloseIO(ctx, containerd.WithStdinCloser)
			ended = nil
		case status := <-running.exited:
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

// command is one that runs in a container.
type command struct {
	containerd.Process
	exited <-chan containerd.ExitStatus
	stdin  *input
}

// startCommand reads nothing of the command's input before it runs: where it does not, another try finds all of that.
func startCommand(ctx context.Context, task containerd.Task, process *specs.Process, e Exec) (*command, error) {
	c := &command{stdin: &input{Reader: e.Stdin, begun: make(chan struct{}), dropped: make(chan struct{}), ended: make(chan struct{})}}
	options := []cio.Opt{cio.WithStreams(c.stdin, e.Stdout, e.Stderr)}
	if e.TTY {
		options = append(options, cio.WithTerminal)
	}
	id := fmt.Sprintf("exec-%d-%d", syscall.Getpid(), execs.Add(1))
	var err error
	if c.Process, err = task.Exec(ctx, id, process, cio.NewCreator(options...)); err != nil {
		return nil, err
	}
	if c.exited, err = c.Wait(ctx); err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		close(c.stdin.dropped)
		_, _ = c.Delete(context.WithoutCancel(ctx), containerd.WithProcessKill)
		return nil, err
	}
	close(c.stdin.begun)
	return c, nil
}

// input is what a command reads from when it has begun, and that tells when it has ended. What it gave before has then been passed on.
type input struct {
	io.Reader
	begun   chan struct{}
	dropped chan struct{} // closed where the command has not begun: it gives nothing
	once    sync.Once
	ended   chan struct{}
}

func (r *input) Read(p []byte) (int, error) {
	select {
	case <-r.begun:
	case <-r.dropped:
		return 0, io.EOF
	}
	n, err := r.Reader.Read(p)
	if err != nil {
		r.once.Do(func() { close(r.ended) })
	}
	return n, err
}
