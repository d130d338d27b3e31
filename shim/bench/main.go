// Bench-shim compares the shim with its peers in one run on one machine: spliced connections with direct ones and with HAProxy in TCP
// mode, the renaming of a JSON field with nginx and lua-cjson, and chains of one, two and four hops. The server behind all of
// them is nginx. Each is measured in turns, ten times; the figures are medians.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

const (
	rounds      = 10
	perRound    = 500 * time.Millisecond
	connections = 16
	result      = "build/bench-shim.json"
)

// report is what is written. A hop's cost is in microseconds of a call's median latency, over one connection.
type report struct {
	PassthroughOverHAProxy float64 `json:"passthrough_over_haproxy"`
	RenameOverNginxLua     float64 `json:"rename_over_nginx_lua"`
	// HopCost is what the first hop, the second, and each of the third and fourth add.
	HopCost               []float64          `json:"hop_cost"`
	PassthroughOverDirect float64            `json:"passthrough_over_direct"`
	Figures               map[string]figures `json:"figures"`
}

// figures are the medians of one way to the server.
type figures struct {
	CallsPerSecond float64 `json:"calls_per_second"`
	P50            float64 `json:"p50_us"`
	P99            float64 `json:"p99_us"`
	// AloneP50 is with one connection only.
	AloneP50 float64 `json:"alone_p50_us"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench-shim:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench-shim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &servers{dir: dir}
	defer s.stop()
	ways, err := s.start(ctx)
	if err != nil {
		return err
	}
	samples := map[string][]figures{}
	for round := range rounds {
		for _, w := range ways {
			f, err := w.measure(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			samples[w.name] = append(samples[w.name], f)
		}
		fmt.Fprintf(os.Stderr, "\rround %d of %d", round+1, rounds)
	}
	fmt.Fprintln(os.Stderr)
	r := summary(samples)
	for _, w := range ways {
		f := r.Figures[w.name]
		fmt.Printf("%-14s %8.0f calls/s   p50 %6.0f us   p99 %6.0f us   alone %6.0f us\n", w.name, f.CallsPerSecond, f.P50, f.P99, f.AloneP50)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(result), 0o755); err != nil {
		return err
	}
	fmt.Printf("%s\n", data)
	return os.WriteFile(result, append(data, '\n'), 0o644)
}

// summary takes medians; ratios are those of the pairs of one round.
func summary(samples map[string][]figures) report {
	r := report{Figures: map[string]figures{}}
	for name, all := range samples {
		r.Figures[name] = figures{
			CallsPerSecond: median(all, func(f figures) float64 { return f.CallsPerSecond }), P50: median(all, func(f figures) float64 { return f.P50 }),
			P99: median(all, func(f figures) float64 { return f.P99 }), AloneP50: median(all, func(f figures) float64 { return f.AloneP50 }),
		}
	}
	ratio := func(a, b string) float64 {
		pairs := make([]figures, len(samples[a]))
		for i := range pairs {
			pairs[i].CallsPerSecond = samples[a][i].CallsPerSecond / samples[b][i].CallsPerSecond
		}
		return median(pairs, func(f figures) float64 { return f.CallsPerSecond })
	}
	cost := func(name, before string, hops float64) float64 {
		pairs := make([]figures, len(samples[name]))
		for i := range pairs {
			pairs[i].AloneP50 = (samples[name][i].AloneP50 - samples[before][i].AloneP50) / hops
		}
		return median(pairs, func(f figures) float64 { return f.AloneP50 })
	}
	r.PassthroughOverHAProxy, r.PassthroughOverDirect = ratio(passed, haproxy), ratio(passed, direct)
	r.RenameOverNginxLua = ratio(oneHop, nginxLua)
	r.HopCost = []float64{cost(oneHop, passed, 1), cost(twoHops, oneHop, 1), cost(fourHops, twoHops, 2)}
	return r
}

func median(all []figures, of func(figures) float64) float64 {
	values := make([]float64, len(all))
	for i, f := range all {
		values[i] = of(f)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
