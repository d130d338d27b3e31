// Command precopy moves an empty Redis and one of 64 MB that is written to between two virtual machines with pre-copy, in turns,
// and writes down what their freezes were: build/bench-precopy.json. It fails if a write or a connection was lost, or if the
// larger one's freeze, by the medians, is more than twice the empty one's.
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
	"slices"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/rig"
)

const (
	mostRatio = 2
	port      = 6379
	writeRate = 100 // a second
	valueSize = 4096
	fullKeys  = 64 << 20 / valueSize
	emptyKeys = 16
)

// found is what is written down.
type found struct {
	EmptyMS float64   `json:"empty_ms"`
	FullMS  float64   `json:"64mb_ms"`
	Ratio   float64   `json:"ratio"`
	Empty   []float64 `json:"empty_rounds_ms"`
	Full    []float64 `json:"64mb_rounds_ms"`
}

// bench is one run.
type bench struct {
	rig   *rig.Rig
	moves int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench-precopy failed:\n%v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	moves := flag.Int("moves", 10, "moves of each")
	name := flag.String("lab", "bench-precopy", "name of the lab; one of that name is replaced")
	binary := flag.String("binary", "build/drydock", "the drydock program, with its package beside it")
	dir := flag.String("dir", "build", "directory for bench-precopy.json")
	flag.Parse()
	if *moves < 1 {
		return errors.New("give at least one move")
	}
	r, err := rig.Up(ctx, lab.Options{Name: *name, Hosts: 2, Driver: lab.DriverVM, Binary: *binary, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Down(context.WithoutCancel(ctx))) }()
	for _, host := range r.Hosts() {
		if err := r.ImportImages(ctx, host, os.Stderr, images.Redis); err != nil {
			return err
		}
	}
	b := &bench{rig: r, moves: *moves}
	var f found
	if f.Empty, err = b.measure(ctx, "empty", emptyKeys); err != nil {
		return err
	}
	if f.Full, err = b.measure(ctx, "full", fullKeys); err != nil {
		return err
	}
	return f.conclude(*dir)
}

// measure returns the freezes, in milliseconds, of a Redis with that many values, which is gone afterwards.
func (b *bench) measure(ctx context.Context, pod string, keys int) (freezes []float64, err error) {
	made, err := b.rig.Run(ctx, &drydockv1.PodSpec{
		Name: pod, RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER,
		Containers: []*drydockv1.Container{{Name: "redis", Image: images.Redis}},
	}, b.rig.Hosts()[0])
	if err != nil {
		return nil, err
	}
	writers, err := b.write(ctx, made, keys)
	if err != nil {
		return nil, err
	}
	for i := range b.moves {
		to := b.rig.Hosts()[(i+1)%2]
		report, err := b.rig.Move(ctx, pod, to, drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY, nil)
		if err != nil {
			return nil, err
		}
		freeze := float64(report.Freeze.AsDuration()) / float64(time.Millisecond)
		fmt.Printf("%s to %s: freeze %.0f ms, %d bytes, %s\n", pod, to, freeze, report.Bytes, report.ModeReason)
		freezes = append(freezes, freeze)
	}
	result, err := writers.Stop(ctx)
	if err == nil && !result.Flawless() {
		err = fmt.Errorf("%s: %+v", pod, result)
	}
	_, rerr := b.rig.RemovePod(ctx, connect.NewRequest(&drydockv1.RemovePodRequest{Name: pod, Force: true}))
	return freezes, errors.Join(err, rerr)
}

// write fills the Redis and goes on writing, as soon as it takes connections.
func (b *bench) write(ctx context.Context, made *drydockv1.Pod, keys int) (*load.RedisWriters, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	address, _, _ := strings.Cut(made.GetSpec().GetAddresses()[0], "/")
	for {
		writers, err := load.StartRedisWriters(ctx, load.RedisConfig{
			Dialer: load.Dialer{Netns: b.rig.NetNS(lab.ClientNode)}, Addr: fmt.Sprint(address, ":", port),
			Connections: 1, Rate: writeRate, Keys: keys, ValueSize: valueSize, Fill: true,
		})
		if err == nil {
			return writers, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// conclude writes the medians down and judges them.
func (f *found) conclude(dir string) error {
	f.EmptyMS, f.FullMS = median(f.Empty), median(f.Full)
	f.Ratio = f.FullMS / f.EmptyMS
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, "bench-precopy.json")
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: empty %.0f ms, 64 MB %.0f ms, ratio %.2f\n", path, f.EmptyMS, f.FullMS, f.Ratio)
	if f.Ratio > mostRatio {
		return fmt.Errorf("the freeze of 64 MB is %.2f times that of an empty one, more than %d", f.Ratio, mostRatio)
	}
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
