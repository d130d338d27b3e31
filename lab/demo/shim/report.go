package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"drydock/internal/durable"
	"drydock/lab/shop"
)

// Report is what demo-shim.json holds.
type Report struct {
	Pairs      []Pair `json:"pairs"`
	Upgrades   int    `json:"upgrades"`   // of pods
	Migrations int    `json:"migrations"` // of pods, the gateway's too
	WritesLost int    `json:"writes_lost"`
}

// Pair is the calls of clients of one version to servers of one version.
type Pair struct {
	Client     string  `json:"client"`
	Server     string  `json:"server"`
	Protocol   string  `json:"protocol"`
	Calls      int     `json:"calls"`
	Translated int     `json:"translated"`
	Disallowed int     `json:"disallowed"`
	Failed     int     `json:"failed"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
}

// add takes in what the clients have counted.
func (r *Report) add(clients []*client) {
	r.Pairs = []Pair{}
	for _, c := range clients {
		for key, n := range c.stats {
			slices.Sort(n.took)
			r.Pairs = append(r.Pairs, Pair{
				Client: key.client, Server: key.server, Protocol: key.protocol, Calls: n.made, Translated: n.translated, Disallowed: n.disallowed,
				Failed: n.failed, P50: percentile(n.took, 50), P99: percentile(n.took, 99),
			})
		}
	}
	slices.SortFunc(r.Pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Client, b.Client), cmp.Compare(a.Server, b.Server))
	})
}

// percentile is that of sorted times, in milliseconds.
func percentile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := (len(sorted)*percent + 99) / 100
	return float64(sorted[max(at, 1)-1].Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// write puts the report into a file, all or nothing.
func (r Report) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(path, append(data, '\n'), 0o644)
}

// show is the report for people.
func (r Report) show(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nPROTOCOL\tCLIENT\tSERVER\tCALLS\tTRANSLATED\tDISALLOWED\tFAILED\tP50\tP99")
	for _, p := range r.Pairs {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%.1f ms\t%.0f ms\n", p.Protocol, p.Client, p.Server, p.Calls, p.Translated, p.Disallowed, p.Failed, p.P50, p.P99)
	}
	fmt.Fprintf(table, "\n%d upgrades of pods, %d moves, %d writes lost\n\n", r.Upgrades, r.Migrations, r.WritesLost)
	return table.Flush()
}

// verdict is what went wrong, or nil.
func (r Report) verdict() error {
	var errs []error
	found := make(map[between]bool)
	disallowed := 0
	for _, p := range r.Pairs {
		found[between{p.Client, p.Server, p.Protocol}] = p.Calls > 0
		disallowed += p.Disallowed
		if p.Failed > 0 {
			errs = append(errs, fmt.Errorf("%d calls of %s clients to %s servers failed over %s", p.Failed, p.Client, p.Server, p.Protocol))
		}
	}
	for _, client := range shop.Versions {
		for _, server := range shop.Versions {
			for _, protocol := range []string{"http", "grpc"} {
				if !found[between{client, server, protocol}] {
					errs = append(errs, fmt.Errorf("no %s client called a %s server over %s", client, server, protocol))
				}
			}
		}
	}
	if disallowed == 0 {
		errs = append(errs, errors.New("no call was disallowed"))
	}
	if wanted := servers * (len(shop.Versions) - 1); r.Upgrades != wanted {
		errs = append(errs, fmt.Errorf("%d pods were upgraded, not %d", r.Upgrades, wanted))
	}
	if r.Migrations == 0 {
		errs = append(errs, errors.New("no pod moved"))
	}
	if r.WritesLost > 0 {
		errs = append(errs, fmt.Errorf("%d writes were lost", r.WritesLost))
	}
	return errors.Join(errs...)
}
