package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// Figures are one contender's medians.
type Figures struct {
	BlackoutMS float64 `json:"blackout_ms"`
	FreezeMS   float64 `json:"freeze_ms"`
}

// Case is what was found with one amount of data.
type Case struct {
	DrydockStop     *Figures `json:"drydock_stop,omitempty"`
	DrydockPostcopy *Figures `json:"drydock_postcopy,omitempty"`
	Podman          *Figures `json:"podman,omitempty"`
	Runc            *Figures `json:"runc,omitempty"`
	// CRIUFloorMS is the median of CRIU's own dump and restore.
	CRIUFloorMS float64 `json:"criu_floor_ms"`
	// PodmanOverDrydock is podman's blackout over that of Drydock's best mode.
	PodmanOverDrydock float64 `json:"podman_over_drydock"`
	// FreezeOverFloor is the freeze of drydock_stop over the floor: both dump, copy and restore everything.
	FreezeOverFloor float64 `json:"freeze_over_floor"`
}

// Round is one move.
type Round struct {
	Case       string  `json:"case"`
	Contender  string  `json:"contender"`
	From       string  `json:"from"`
	To         string  `json:"to"`
	BlackoutMS float64 `json:"blackout_ms"`
	FreezeMS   float64 `json:"freeze_ms"`
	Lost       bool    `json:"connection_lost"`
	WritesLost int64   `json:"writes_lost"`
	Error      string  `json:"error,omitempty"`
}

// median of no values is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// summarize makes a case of its rounds. A contender without a move that worked has no figures.
func summarize(rounds []Round, floor []time.Duration) Case {
	medians := func(name string) *Figures {
		var blackouts, freezes []float64
		for _, r := range rounds {
			if r.Contender == name && r.Error == "" {
				blackouts, freezes = append(blackouts, r.BlackoutMS), append(freezes, r.FreezeMS)
			}
		}
		if len(blackouts) == 0 {
			return nil
		}
		return &Figures{BlackoutMS: median(blackouts), FreezeMS: median(freezes)}
	}
	var floors []float64
	for _, f := range floor {
		floors = append(floors, milliseconds(f))
	}
	c := Case{
		DrydockStop: medians("drydock_stop"), DrydockPostcopy: medians("drydock_postcopy"),
		Podman: medians("podman"), Runc: medians("runc"), CRIUFloorMS: median(floors),
	}
	best := c.DrydockStop
	if best == nil || c.DrydockPostcopy != nil && c.DrydockPostcopy.BlackoutMS < best.BlackoutMS {
		best = c.DrydockPostcopy
	}
	if best != nil && c.Podman != nil && best.BlackoutMS > 0 {
		c.PodmanOverDrydock = c.Podman.BlackoutMS / best.BlackoutMS
	}
	if c.DrydockStop != nil && c.CRIUFloorMS > 0 {
		c.FreezeOverFloor = c.DrydockStop.FreezeMS / c.CRIUFloorMS
	}
	return c
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

func printCase(out io.Writer, name string, c Case, rounds []Round) {
	fmt.Fprintf(out, "\n%s Redis\n", name)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "contender\tblackout ms\tfreeze ms\tmoves\tfailed\tconnections lost\twrites lost\t")
	for _, name := range []string{"drydock_stop", "drydock_postcopy", "podman", "runc"} {
		figures := map[string]*Figures{
			"drydock_stop": c.DrydockStop, "drydock_postcopy": c.DrydockPostcopy, "podman": c.Podman, "runc": c.Runc,
		}[name]
		moves, failed, connections, writes := 0, 0, 0, int64(0)
		for _, r := range rounds {
			if r.Contender != name {
				continue
			}
			moves++
			writes += r.WritesLost
			if r.Error != "" {
				failed++
			}
			if r.Lost {
				connections++
			}
		}
		blackout, freeze := "-", "-"
		if figures != nil {
			blackout, freeze = fmt.Sprintf("%.0f", figures.BlackoutMS), fmt.Sprintf("%.0f", figures.FreezeMS)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t\n", name, blackout, freeze, moves, failed, connections, writes)
	}
	_ = table.Flush()
	fmt.Fprintf(out, "CRIU's floor %.0f ms; podman over Drydock %.2f; freeze over floor %.2f\n",
		c.CRIUFloorMS, c.PodmanOverDrydock, c.FreezeOverFloor)
}
