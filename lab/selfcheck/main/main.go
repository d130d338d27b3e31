// Command selfcheck checks that nothing about it changes while its pod is moved: what it is, what it holds open, and what
// is on its way. It answers on TCP, one line each: "ping" with "pong", "check" with a report in JSON.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"drydock/lab/selfcheck"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == childMode {
		os.Exit(runChild(os.Args[2:]))
	}
	var cfg config
	flag.StringVar(&cfg.listen, "listen", fmt.Sprintf(":%d", selfcheck.Port), "address to answer on")
	flag.StringVar(&cfg.generationDir, "generation-file", "", "directory on a shared volume, where copies that run at the same instant are found out")
	flag.DurationVar(&cfg.beat, "beat", time.Millisecond, "time between two beats of the generation counter")
	flag.DurationVar(&cfg.pause, "pause", 100*time.Millisecond, "time between two rounds of all checks")
	flag.StringVar(&cfg.skip, "skip", "", "names of checks to leave out, separated by commas")
	flag.StringVar(&cfg.also, "also", "", "names of checks to add that CRIU is known to fail: eventfd-semaphore, stopped-child")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "selfcheck:", err)
		os.Exit(1)
	}
}

type config struct {
	listen        string
	generationDir string
	beat, pause   time.Duration
	skip, also    string
}

func run(ctx context.Context, cfg config) error {
	dir, err := os.MkdirTemp("", "selfcheck-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	instance := selfcheck.NewInstance()
	clock := newClock()
	go clock.run(ctx)
	var beater *heart
	if cfg.generationDir != "" {
		if beater, err = newHeart(cfg.generationDir, instance); err != nil {
			return err
		}
		go beater.run(ctx, cfg.beat)
	}
	rounds := newChecker(ctx, instance, clock, beater, environment{dir: dir, clock: clock, ctx: ctx}, cfg.skip, cfg.also)
	go rounds.run(ctx, cfg.pause)
	listener, err := listen(ctx, cfg.listen)
	if err != nil {
		return err
	}
	fmt.Printf("selfcheck: instance %s answers on %s\n", instance, listener.Addr())
	return serve(ctx, listener, rounds)
}

// heart beats the generation counter.
type heart struct {
	*selfcheck.Beater
}

func newHeart(dir, instance string) (*heart, error) {
	beater, err := selfcheck.NewBeater(dir, instance)
	return &heart{beater}, err
}

func (h *heart) run(ctx context.Context, pause time.Duration) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := h.Beat(); err != nil {
			fmt.Fprintln(os.Stderr, "selfcheck:", err)
		}
		<-ticker.C
	}
}
