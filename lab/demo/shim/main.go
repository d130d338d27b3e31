// Command shim upgrades a service of five pods from its first version to its third, one pod at a time, while clients of all three
// versions write and read through its gateway over HTTP and gRPC, and hosts are drained. It passes only if no call fails that the
// service's record allows, and every write is found again through every version.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	d := &demo{out: os.Stdout}
	flag.StringVar(&d.lab, "lab", "demo-shim", "name of the lab; one of that name is replaced")
	flag.StringVar(&d.binary, "binary", "build/drydock", "the drydock program that the hosts run")
	flag.StringVar(&d.dir, "dir", "build", "directory for demo-shim.json, and for the hosts' logs if something fails")
	flag.BoolVar(&d.keep, "keep", false, "leave the lab up at the end")
	flag.Uint64Var(&d.seed, "seed", uint64(time.Now().UnixNano()), "of what clients choose by chance")
	flag.Parse()
	if err := d.show(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "demo-shim failed:\n%v\n", err)
		os.Exit(1)
	}
}
