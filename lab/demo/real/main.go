// Command real patches virtual machines with pods in use on them to a newer kernel, and fails if a client lost anything. See package demo.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"drydock/lab/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	cfg := demo.Config{Out: os.Stdout}
	flag.StringVar(&cfg.Lab, "lab", "demo-real", "name of the lab; one of that name is replaced")
	flag.StringVar(&cfg.Binary, "binary", "build/drydock", "the drydock program that the hosts run")
	flag.StringVar(&cfg.Dir, "dir", "build", "directory for demo-real.json, and for the hosts' logs if something fails")
	flag.BoolVar(&cfg.Keep, "keep", false, "leave the lab up at the end")
	flag.Parse()
	if err := demo.RunReal(ctx, cfg); err != nil {
		fmt.Fprintf(os.Stderr, "demo-real failed:\n%v\n", err)
		os.Exit(1)
	}
}
