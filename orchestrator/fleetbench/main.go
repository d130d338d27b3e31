// Command fleetbench has many simulated agents report to one controller, over real connections, and tells what that costs the
// controller: build/bench-fleet.json.
//
// The controller is a process of its own, on one core, with one thread for Go code; the agents are this process, on the other
// cores. Each agent has joined with a token, has its own certificate and its own TLS connection, and sends with every report its
// host's description, its summary and its whole status.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// result is build/bench-fleet.json.
type result struct {
	Agents    int     `json:"agents"`
	IntervalS float64 `json:"interval_s"`
	CPUCores  float64 `json:"cpu_cores"`
	RSSMB     int     `json:"rss_mb"`
	P99MS     float64 `json:"p99_ms"`
	WorstMS   float64 `json:"worst_ms"`
	Reports   int     `json:"reports"`
	Failed    int     `json:"failed"`
}

type options struct {
	dir      string
	agents   int
	interval time.Duration
	settle   time.Duration
	measure  time.Duration
	profile  string
}

func main() {
	if path := os.Getenv(childConfig); path != "" {
		if err := beController(path); err != nil {
			fmt.Fprintf(os.Stderr, "bench-fleet: controller: %v\n", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.dir, "dir", "build", "directory for bench-fleet.json")
	flag.IntVar(&o.agents, "agents", 10_000, "simulated agents")
	flag.DurationVar(&o.interval, "interval", 10*time.Second, "how often each reports")
	flag.DurationVar(&o.settle, "settle", 30*time.Second, "how long all report before it is measured")
	flag.DurationVar(&o.measure, "measure", time.Minute, "how long it is measured")
	flag.StringVar(&o.profile, "profile", "", "file for a CPU profile of the controller while it is measured, and with .heap behind it for one of its memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "bench-fleet: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	work, err := os.MkdirTemp("", "drydock-fleet-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := useCores(otherCores()); err != nil {
		return err
	}
	c, err := startController(ctx, work, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	began := time.Now()
	fleet, err := join(ctx, c, work, o)
	if err != nil {
		return err
	}
	fmt.Printf("%d agents have joined in %.0f s\n", o.agents, time.Since(began).Seconds())
	r, err := measure(ctx, c, fleet, o)
	if err != nil {
		return err
	}
	return r.write(o.dir)
}

func (r result) write(dir string) error {
	fmt.Printf("%d agents every %.0f s: %.3f cores, %d MB; %d reports, p99 %.1f ms, worst %.1f ms, %d failed\n",
		r.Agents, r.IntervalS, r.CPUCores, r.RSSMB, r.Reports, r.P99MS, r.WorstMS, r.Failed)
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bench-fleet.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	if r.CPUCores >= 0.5 || r.RSSMB >= 2048 || r.Failed > 0 {
		return errors.New("what is to be reached is less than half a core and 2048 MB, with no report lost")
	}
	return nil
}
