package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
)

// PatchReport is what demo-patch.json holds.
type PatchReport struct {
	Hosts              []PatchedHost `json:"hosts"`
	Moves              []PatchMove   `json:"moves"`
	ClientRequests     int64         `json:"client_requests"`
	ClientErrors       int64         `json:"client_errors"` // errors, lost connections and lost writes
	FailedTransactions int64         `json:"failed_transactions"`
	Duration           float64       `json:"duration_s"` // of the rollout
}

// PatchedHost is what was done to one host.
type PatchedHost struct {
	Name     string           `json:"name"`
	Packages []PatchedPackage `json:"packages"`
	Reboot   string           `json:"reboot"` // simulated, real or none
}

// PatchedPackage is a package that was pinned, with the versions that dpkg had before and has now.
type PatchedPackage struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// PatchMove is one pod's way from a host to another.
type PatchMove struct {
	Pod      string  `json:"pod"`
	From     string  `json:"from"`
	To       string  `json:"to"`
	Blackout float64 `json:"blackout_ms"` // the longest time that a client waited for an answer
}

// add takes in what the clients of one pod found.
func (r *PatchReport) add(found findings) {
	r.ClientRequests += found.requests
	r.ClientErrors += found.Errors + found.AckedWritesLost + int64(found.ConnectionsBefore-found.ConnectionsAfter)
	r.FailedTransactions += found.failedTransactions
}

// write puts the report into a file, all or nothing.
func (r PatchReport) write(path string) error {
	if r.Hosts == nil {
		r.Hosts = []PatchedHost{}
	}
	if r.Moves == nil {
		r.Moves = []PatchMove{}
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(path, append(data, '\n'), 0o644)
}

// show is the report for people.
func (r PatchReport) show(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nHOST\tREBOOT\tPACKAGE\tFROM\tTO")
	for _, h := range r.Hosts {
		for _, p := range h.Packages {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", h.Name, h.Reboot, p.Name, p.From, p.To)
		}
	}
	fmt.Fprintln(table, "\nPOD\tFROM\tTO\tBLACKOUT")
	for _, m := range r.Moves {
		fmt.Fprintf(table, "%s\t%s\t%s\t%.0f ms\n", m.Pod, m.From, m.To, m.Blackout)
	}
	fmt.Fprintf(table, "\n%d requests of clients, %d errors, %d failed transactions, %.0f s\n\n",
		r.ClientRequests, r.ClientErrors, r.FailedTransactions, r.Duration)
	return table.Flush()
}

// verdict is what went wrong, or nil.
func (p *patching) verdict() error {
	errs, r := p.complaints(), p.report
	if state := p.rollout.GetState(); state != drydockv1.RolloutState_ROLLOUT_STATE_FINISHED {
		errs = append(errs, fmt.Errorf("the rollout is not finished but %s: %s", state, p.rollout.GetReason()))
	}
	for _, host := range route {
		i := slices.IndexFunc(r.Hosts, func(h PatchedHost) bool { return h.Name == host })
		if i < 0 || len(r.Hosts[i].Packages) == 0 {
			errs = append(errs, fmt.Errorf("%s was given no package", host))
		}
	}
	for _, t := range p.pods {
		if !slices.ContainsFunc(r.Moves, func(m PatchMove) bool { return m.Pod == t.app.name }) {
			errs = append(errs, fmt.Errorf("%s was on a host that was emptied, and did not move", t.app.name))
		}
	}
	if r.ClientErrors != 0 || r.FailedTransactions != 0 {
		errs = append(errs, fmt.Errorf("clients saw %d errors and %d failed transactions", r.ClientErrors, r.FailedTransactions))
	}
	if r.ClientRequests == 0 {
		errs = append(errs, errors.New("no client asked for anything"))
	}
	return errors.Join(errs...)
}
