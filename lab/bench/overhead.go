package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"drydock/lab/images"
)

// OverheadConfig of a comparison of a pod with a bare process. Nothing has a default.
type OverheadConfig struct {
	// Lab is the name of the lab. One of that name that exists is replaced.
	Lab string
	// Binary is the drydock program that the host runs.
	Binary string
	// Dir is where bench-overhead.json goes.
	Dir string
	// Pairs is how often the two are driven in turn.
	Pairs int
	// Requests of each kind, GET and SET, that are sent to either in a pair, over Clients connections, each waiting for its
	// answer before it asks again.
	Requests, Clients int
	Out               io.Writer
}

// The bare Redis is the image's, as a process of the host in PID, IPC, UTS and mount namespaces of its own, so that it can be
// ended whole, and with nothing else that a container has: no filter of system calls, no limits, no layered files.
const (
	bareID  = "bare"
	bareIP  = "10.77.100.20"
	bareMAC = "02:77:00:00:66:01"
)

// Overhead compares requests per second of a Redis in a pod with those of the same Redis as a bare process in a network
// namespace on the same host's bridge, both driven from the client's namespace, and writes the median of the pairs' ratios.
func Overhead(ctx context.Context, cfg OverheadConfig) (err error) {
	h, err := bring(ctx, cfg.Lab, cfg.Binary, 1, cfg.Out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Down(context.WithoutCancel(ctx))) }()
	host := h.Hosts()[0]
	pod, err := h.Run(ctx, redisPod("redis", false), host)
	if err != nil {
		return err
	}
	address, err := podAddress(pod)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	ended, err := h.startBare(ctx, host)
	if err != nil {
		end()
		return err
	}
	defer func() { end(); <-ended }()
	ratios, err := h.pairs(ctx, cfg, address)
	if err != nil {
		return err
	}
	ratio := median(ratios)
	fmt.Fprintf(cfg.Out, "median ratio %.3f\n", ratio)
	return writeJSON(filepath.Join(cfg.Dir, "bench-overhead.json"), struct {
		Ratio float64 `json:"ratio"`
	}{ratio})
}

// startBare runs the bare Redis until the context ends; the channel is closed when it has.
func (h *hosts) startBare(ctx context.Context, host string) (<-chan struct{}, error) {
	if _, err := h.sh(ctx, host, makeNetwork+plugIn, bareID, bareIP, bareMAC); err != nil {
		return nil, err
	}
	root := h.disk(host, bareID)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	bare, err := h.set.Bare(ctx, images.Redis, root)
	if err != nil {
		return nil, err
	}
	argv := []string{
		"nsenter", "--net=/run/netns/" + bareID, "unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL",
	}
	for _, arg := range bare.Args {
		if arg == root {
			arg = filepath.Join(diskDir, bareID) // as the host sees it
		}
		argv = append(argv, arg)
	}
	cmd := h.Exec(ctx, host, argv...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bare redis: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed at the end
		close(ended)
	}()
	if err := h.awaitRedis(ctx, bareIP); err != nil {
		return nil, fmt.Errorf("bare %w: %s", err, tail(said.String()))
	}
	return ended, nil
}

// pairs drives both in turn, each time the other one first, and returns the ratios of the pod's rate to the bare one's.
func (h *hosts) pairs(ctx context.Context, cfg OverheadConfig, pod string) ([]float64, error) {
	both := [2]string{pod, bareIP}
	for _, address := range both { // once for nothing: caches and buffers
		if _, err := h.drive(ctx, cfg, address); err != nil {
			return nil, err
		}
	}
	var ratios []float64
	for pair := range cfg.Pairs {
		var rates [2]float64
		for i := range both {
			which := (i + pair) % 2
			rate, err := h.drive(ctx, cfg, both[which])
			if err != nil {
				return nil, err
			}
			rates[which] = rate
		}
		ratios = append(ratios, rates[0]/rates[1])
		fmt.Fprintf(cfg.Out, "pair %2d/%d: pod %6.0f/s  bare %6.0f/s  ratio %.3f\n", pair+1, cfg.Pairs, rates[0], rates[1], ratios[pair])
	}
	return ratios, nil
}

// drive sends the requests with redis-benchmark, and returns how many were answered in a second.
func (h *hosts) drive(ctx context.Context, cfg OverheadConfig, address string) (float64, error) {
	cmd := exec.CommandContext(ctx, "chroot", h.set.Root(), "/usr/bin/redis-benchmark", "-h", address, "-p", strconv.Itoa(redisPort),
		"-t", "get,set", "-n", strconv.Itoa(cfg.Requests), "-c", strconv.Itoa(cfg.Clients), "-P", "1", "--csv")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := h.client().Start(cmd); err != nil {
		return 0, err
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w: %s", err, tail(stderr.String()))
	}
	return rate(&stdout, cfg.Requests)
}

// rate reads redis-benchmark's table, a line for each kind of request with its rate, and returns that of all together.
func rate(table io.Reader, requests int) (float64, error) {
	rows, err := csv.NewReader(table).ReadAll()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark's table: %w", err)
	}
	kinds, seconds := 0, 0.0
	for _, row := range rows {
		if len(row) < 2 || row[0] != "GET" && row[0] != "SET" {
			continue
		}
		each, err := strconv.ParseFloat(row[1], 64)
		if err != nil || each <= 0 {
			return 0, fmt.Errorf("redis-benchmark's rate %q of %s: %w", row[1], row[0], err)
		}
		kinds, seconds = kinds+1, seconds+float64(requests)/each
	}
	if kinds != 2 {
		return 0, fmt.Errorf("redis-benchmark's table has %d of 2 kinds of requests", kinds)
	}
	return float64(kinds*requests) / seconds, nil
}
