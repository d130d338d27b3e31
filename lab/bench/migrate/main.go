// Command migrate compares how Drydock, podman and runc move a running Redis between two hosts. See package bench.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"drydock/lab/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	cfg := bench.MigrateConfig{Out: os.Stdout}
	flag.StringVar(&cfg.Lab, "lab", "bench", "name of the lab; one of that name is replaced")
	flag.StringVar(&cfg.Binary, "binary", "build/drydock", "the drydock program that the hosts run")
	flag.StringVar(&cfg.Dir, "dir", "build", "directory for bench-migrate.json and bench-migrate-rounds.json")
	flag.IntVar(&cfg.Rounds, "rounds", 10, "how often every contender moves, with either amount of data")
	cases := flag.String("cases", "empty,256mb", "amounts of data")
	flag.Parse()
	cfg.Cases = strings.Split(*cases, ",")
	if err := bench.Migrate(ctx, cfg); err != nil {
		fmt.Fprintf(os.Stderr, "bench-migrate: %v\n", err)
		os.Exit(1)
	}
}
