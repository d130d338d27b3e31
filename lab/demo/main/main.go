// Command demo moves pods under load around three hosts, and fails if their clients lost anything. See package demo.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"drydock/lab/demo"
	"drydock/lab/rig"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "demo failed:\n%v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg := demo.Config{Out: os.Stdout}
	modes := flag.String("modes", "stop,postcopy,auto", "modes of the moves of each pod, in order: auto, stop or postcopy")
	flag.StringVar(&cfg.Lab, "lab", "demo", "name of the lab; one of that name is replaced")
	flag.StringVar(&cfg.Binary, "binary", "build/drydock", "the drydock program that the hosts run")
	flag.StringVar(&cfg.Dir, "dir", "build", "directory for demo.json, and for the hosts' logs if something fails")
	flag.BoolVar(&cfg.Keep, "keep", false, "leave the lab up at the end")
	flag.Parse()
	var err error
	if cfg.Modes, err = rig.ParseModes(*modes); err != nil {
		return err
	}
	return demo.Run(ctx, cfg)
}
