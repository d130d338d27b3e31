// Drydock is the operator's command line, and what runs on controllers and hosts. Every command turns its flags into one
// request and the answer into a table, JSON or YAML; what things mean is decided by the packages behind it.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// The agent enters pods' network namespaces with threads that end with their work. A process's first thread cannot end: Go would
// keep it for ever, and with it the namespace of a pod that is long gone. So nothing but main runs on it.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run carries out one command line and returns its exit status. SIGINT and SIGTERM cancel it; a second one ends the
// process at once.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return runContext(ctx, &app{stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now, patience: takeoverPatience}, args)
}

// runContext carries out one command line until ctx ends.
func runContext(ctx context.Context, a *app, args []string) int {
	root := newRootCommand(a)
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		return a.report(ctx, err)
	}
	return statusDone
}
