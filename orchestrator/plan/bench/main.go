// Command bench makes the plan of a large pool, the same each time, and tells how long it took, how much memory, and how far the
// plan is above what no plan can be below: build/bench-plan.json.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"drydock/orchestrator/plan"
)

// result is build/bench-plan.json.
type result struct {
	Hosts       int     `json:"hosts"`
	Pods        int     `json:"pods"`
	Seconds     float64 `json:"seconds"`
	RSSMB       int     `json:"rss_mb"`
	Moves       int     `json:"moves"`
	MovesBound  int     `json:"moves_bound"`
	Rounds      int     `json:"rounds"`
	RoundsBound int     `json:"rounds_bound"`
}

func main() {
	dir := flag.String("dir", "build", "directory for bench-plan.json")
	seed := flag.Uint64("seed", 1, "what the instance is made from")
	atOnce := flag.Int("at-once", 250, "hosts of one rack that are patched at a time")
	flag.Parse()
	if err := run(*dir, *seed, size{hosts: 10_000, racks: 20, pods: 100_000, full: 0.7, atOnce: *atOnce}); err != nil {
		fmt.Fprintf(os.Stderr, "bench-plan: %v\n", err)
		os.Exit(1)
	}
}

func run(dir string, seed uint64, s size) error {
	in := instance(s, seed)
	if len(in.Pods) != s.pods {
		return fmt.Errorf("only %d of %d pods found a host: give them less of the memory", len(in.Pods), s.pods)
	}
	r, err := measure(in)
	if err != nil {
		return err
	}
	fmt.Printf("%d hosts, %d pods: %.1f s, %d MB; %d moves, no plan has fewer than %d (%+.1f %%); %d rounds, at least %d (%+.1f %%)\n",
		r.Hosts, r.Pods, r.Seconds, r.RSSMB, r.Moves, r.MovesBound, above(r.Moves, r.MovesBound), r.Rounds, r.RoundsBound, above(r.Rounds, r.RoundsBound))
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bench-plan.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	if r.Seconds > 10 || r.RSSMB > 2048 || above(r.Moves, r.MovesBound) > 10 || above(r.Rounds, r.RoundsBound) > 10 {
		return errors.New("what is to be reached is 10 s, 2048 MB, and 10 % above the bounds")
	}
	return nil
}

func measure(in plan.Input) (result, error) {
	began := time.Now()
	p, err := plan.Make(in)
	if err != nil {
		return result{}, err
	}
	r := result{Hosts: len(in.Hosts), Pods: len(in.Pods), Seconds: time.Since(began).Seconds(), Moves: p.Moves, Rounds: len(p.Rounds)}
	if r.RSSMB, err = peak(); err != nil {
		return r, err
	}
	if len(p.Blockers) > 0 {
		return r, fmt.Errorf("no plan: %d pods are in the way, the first is %+v", len(p.Blockers), p.Blockers[0])
	}
	if err := plan.Verify(in, p); err != nil {
		return r, err
	}
	r.MovesBound, r.RoundsBound = bounds(in)
	return r, nil
}

func above(value, bound int) float64 { return 100 * (float64(value)/float64(bound) - 1) }

// peak is the most memory that this process has had, in megabytes.
func peak() (int, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if text, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.Atoi(strings.Fields(text)[0])
			return kib >> 10, err
		}
	}
	return 0, errors.New("/proc/self/status does not tell the peak of memory")
}
