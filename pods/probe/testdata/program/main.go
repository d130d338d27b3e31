// Program probes the host that it runs on, and is what is probed.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"drydock/pods/probe"
)

func main() {
	err := probe.Main
	if len(os.Args) > 2 && os.Args[1] == "run" {
		err = func() error { return run(os.Args[2]) }
	}
	if err := err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	p := &probe.Probe{Dir: dir, Cgroup: "/drydock/probe", Program: program, Args: []string{"content"}, Within: 40 * time.Second}
	return p.Run(context.Background())
}
