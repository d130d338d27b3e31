package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	v1 "drydock/api/drydock/v1"
)

func newPodExec(a *app) *cobra.Command {
	start := &v1.ExecRequest_Start{}
	interactive := false
	cmd := &cobra.Command{
		Use:   "exec POD CMD...",
		Short: "Run a command in a pod, and end with its exit status",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 && args[1] == "--" {
				args = append(args[:1:1], args[2:]...)
			}
			return between(2, append([]string{"POD", "CMD"}, args...)...)(c, args)
		},
		ValidArgsFunction: a.completeArgs(podNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if start.Pod, start.Command = args[0], args[1:]; start.Command[0] == "--" {
				start.Command = start.Command[1:]
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.exec(cmd, c, start, interactive)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows POD belongs to CMD
	f.StringVarP(&start.Container, "container", "c", "", "container, where the pod has several")
	f.BoolVarP(&interactive, "interactive", "i", false, "pass stdin on")
	f.BoolVarP(&start.Tty, "tty", "t", false, "give the command a terminal: ours, made raw")
	return cmd
}

// exec runs one command in a pod. Signals that end us go to the command instead: its end is ours.
func (a *app) exec(cmd *cobra.Command, c *client, start *v1.ExecRequest_Start, interactive bool) error {
	screen, isTerminal := terminal(a.stdin)
	if start.Tty && !isTerminal {
		return misuse(cmd, "stdin is no terminal: leave out --tty")
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	if start.Tty {
		start.Rows, start.Columns = windowSize(screen)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(cmd.Context()))
	defer cancel()
	e := &execution{stream: c.ExecPod(ctx)}
	if err := e.send(&v1.ExecRequest{Event: &v1.ExecRequest_Start_{Start: start}}); err != nil {
		return err
	}
	if start.Tty {
		old, err := term.MakeRaw(int(screen.Fd()))
		if err != nil {
			return err
		}
		defer term.Restore(int(screen.Fd()), old)
	}
	if interactive {
		go e.sendInput(a.stdin)
	} else if err := e.closeInput(); err != nil {
		return err
	}
	go e.sendSignals(ctx, signals, screen, start.Tty)
	return e.receive(a.stdout, a.stderr)
}

// execution is one command that runs in a pod.
type execution struct {
	stream *connect.BidiStreamForClient[v1.ExecRequest, v1.ExecResponse]
	mu     sync.Mutex // a stream takes one message at a time
}

// send passes req on. That the command has ended meanwhile is no error: receive tells how.
func (e *execution) send(req *v1.ExecRequest) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (e *execution) closeInput() error {
	return e.send(&v1.ExecRequest{Event: &v1.ExecRequest_StdinClosed{StdinClosed: true}})
}

func (e *execution) sendInput(stdin io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := stdin.Read(buf)
		if n > 0 && e.send(&v1.ExecRequest{Event: &v1.ExecRequest_Stdin{Stdin: buf[:n]}}) != nil {
			return // receive returns the reason
		}
		if err != nil {
			e.closeInput()
			return
		}
	}
}

func (e *execution) sendSignals(ctx context.Context, signals <-chan os.Signal, screen *os.File, tty bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			req := &v1.ExecRequest{Event: &v1.ExecRequest_Signal{Signal: int32(s.(syscall.Signal))}}
			if s == syscall.SIGWINCH {
				if !tty {
					continue
				}
				rows, columns := windowSize(screen)
				req.Event = &v1.ExecRequest_Resize_{Resize: &v1.ExecRequest_Resize{Rows: rows, Columns: columns}}
			}
			if e.send(req) != nil {
				return
			}
		}
	}
}

// receive writes what the command writes, until it ends.
func (e *execution) receive(stdout, stderr io.Writer) error {
	for {
		res, err := e.stream.Receive()
		if errors.Is(err, io.EOF) {
			return errors.New("the call ended before the command did; it may go on in the pod")
		}
		if err != nil {
			return err
		}
		switch event := res.Event.(type) {
		case *v1.ExecResponse_Stdout:
			_, err = stdout.Write(event.Stdout)
		case *v1.ExecResponse_Stderr:
			_, err = stderr.Write(event.Stderr)
		case *v1.ExecResponse_ExitCode:
			if event.ExitCode == 0 {
				return nil
			}
			return exitStatus(event.ExitCode)
		}
		if err != nil {
			return err
		}
	}
}

// windowSize is 0, 0 where the terminal does not know.
func windowSize(screen *os.File) (rows, columns uint32) {
	width, height, err := term.GetSize(int(screen.Fd()))
	if err != nil {
		return 0, 0
	}
	return uint32(height), uint32(width)
}
