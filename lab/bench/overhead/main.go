// Command overhead compares a Redis in a pod with the same Redis as a bare process. See package bench.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"drydock/lab/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	cfg := bench.OverheadConfig{Out: os.Stdout}
	flag.StringVar(&cfg.Lab, "lab", "bench", "name of the lab; one of that name is replaced")
	flag.StringVar(&cfg.Binary, "binary", "build/drydock", "the drydock program that the host runs")
	flag.StringVar(&cfg.Dir, "dir", "build", "directory for bench-overhead.json")
	flag.IntVar(&cfg.Pairs, "pairs", 10, "how often the two are driven in turn")
	flag.IntVar(&cfg.Requests, "requests", 50000, "requests of each kind to either in a pair")
	flag.IntVar(&cfg.Clients, "clients", 50, "connections")
	flag.Parse()
	if err := bench.Overhead(ctx, cfg); err != nil {
		fmt.Fprintf(os.Stderr, "bench-overhead: %v\n", err)
		os.Exit(1)
	}
}
