// Command soak moves a pod back and forth under writes, and fails if anything is lost or left behind. See package soak.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"drydock/lab/rig"
	"drydock/lab/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "soak failed:\n%v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg := soak.Config{Out: os.Stdout}
	modes := flag.String("modes", "stop", "modes of the moves, used in turn: auto, stop or postcopy")
	flag.IntVar(&cfg.Moves, "moves", 100, "moves to make; an even number brings the pod back to where it is counted first")
	flag.IntVar(&cfg.Connections, "connections", 20, "connections that write")
	flag.StringVar(&cfg.Lab, "lab", "soak", "name of the lab; one of that name is replaced")
	flag.StringVar(&cfg.Binary, "binary", "build/drydock", "the drydock program that the hosts run")
	flag.StringVar(&cfg.Dir, "dir", "build", "directory for soak.json, and for the hosts' logs if something fails")
	flag.BoolVar(&cfg.Keep, "keep", false, "leave the lab up at the end")
	flag.Parse()
	var err error
	if cfg.Modes, err = rig.ParseModes(*modes); err != nil {
		return err
	}
	if cfg.Moves < 2 || cfg.Moves%2 != 0 || cfg.Connections < 1 {
		return errors.New("give an even number of moves, 2 at least, and at least one connection")
	}
	return soak.Run(ctx, cfg)
}
