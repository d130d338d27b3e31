package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
)

// RealReport is what demo-real.json holds.
type RealReport struct {
	Hosts    []RealHost `json:"hosts"`
	Pods     []RealPod  `json:"pods"`
	Duration float64    `json:"duration_s"`
}

// RealHost is a machine, as it says itself.
type RealHost struct {
	Name         string `json:"name"`
	KernelBefore string `json:"kernel_before"`
	KernelAfter  string `json:"kernel_after"`
	BootBefore   string `json:"boot_id_before"`
	BootAfter    string `json:"boot_id_after"`
	Packages     int    `json:"packages"` // that it was given
}

// RealPod is a pod, as its clients saw it; its clocks are looked at on the machines.
type RealPod struct {
	Name               string  `json:"name"`
	Moves              int     `json:"moves"`
	ConnectionsBefore  int     `json:"connections_before"`
	ConnectionsLost    int     `json:"connections_lost"`
	AckedWrites        int64   `json:"acked_writes"`
	WritesLost         int64   `json:"writes_lost"`
	FailedTransactions int64   `json:"failed_transactions"`
	ClockStepsBack     int     `json:"clock_steps_back"`
	Blackout           float64 `json:"blackout_ms_max"` // of its moves
}

// write puts the report into a file, all or nothing.
func (r RealReport) write(path string) error {
	if r.Hosts == nil {
		r.Hosts = []RealHost{}
	}
	if r.Pods == nil {
		r.Pods = []RealPod{}
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(path, append(data, '\n'), 0o644)
}

// show is the report for people.
func (r RealReport) show(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nHOST\tKERNEL\tAFTER\tBOOT\tAFTER\tPACKAGES")
	for _, h := range r.Hosts {
		fmt.Fprintf(table, "%s\t%s\t%s\t%.8s\t%.8s\t%d\n", h.Name, h.KernelBefore, h.KernelAfter, h.BootBefore, h.BootAfter, h.Packages)
	}
	fmt.Fprintln(table, "\nPOD\tMOVES\tCONNECTIONS\tLOST\tACKED WRITES\tLOST\tFAILED TRANSACTIONS\tCLOCK STEPS BACK\tLONGEST BLACKOUT")
	for _, p := range r.Pods {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.0f ms\n", p.Name, p.Moves, p.ConnectionsBefore, p.ConnectionsLost, p.AckedWrites,
			p.WritesLost, p.FailedTransactions, p.ClockStepsBack, p.Blackout)
	}
	fmt.Fprintf(table, "\n%.0f s\n\n", r.Duration)
	return table.Flush()
}

// faults are what is not as it must be.
func (r RealReport) faults() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(r.Hosts) != realHosts {
		wrong("%d of %d hosts were patched", len(r.Hosts), realHosts)
	}
	for _, h := range r.Hosts {
		if h.KernelBefore == h.KernelAfter {
			wrong("%s runs kernel %s as before", h.Name, h.KernelAfter)
		}
		if h.BootBefore == h.BootAfter {
			wrong("%s was not rebooted", h.Name)
		}
		if h.Packages == 0 {
			wrong("%s was given no package", h.Name)
		}
	}
	if want := len(realApps()); len(r.Pods) != want {
		wrong("%d of %d pods were in use to the end", len(r.Pods), want)
	}
	for _, p := range r.Pods {
		if p.Moves == 0 {
			wrong("%s was on a host that was emptied, and did not move", p.Name)
		}
		if p.ConnectionsBefore == 0 {
			wrong("%s had no connection to keep", p.Name)
		}
		if p.ConnectionsLost != 0 || p.WritesLost != 0 || p.FailedTransactions != 0 || p.ClockStepsBack != 0 {
			wrong("%s: %d connections and %d acknowledged writes were lost, %d transactions failed, clocks went back %d times",
				p.Name, p.ConnectionsLost, p.WritesLost, p.FailedTransactions, p.ClockStepsBack)
		}
	}
	return errs
}

// verdict is what went wrong, or nil.
func (c *crossing) verdict() error {
	errs := append(c.complaints(), c.report.faults()...)
	if state := c.rollout.GetState(); state != drydockv1.RolloutState_ROLLOUT_STATE_FINISHED {
		errs = append(errs, fmt.Errorf("the rollout is not finished but %s: %s", state, c.rollout.GetReason()))
	}
	for _, h := range c.rollout.GetHosts() {
		if h.GetRebootKind() != "real" {
			errs = append(errs, fmt.Errorf("the reboot of %s is reported as %q", h.Host, h.RebootKind))
		}
	}
	return errors.Join(errs...)
}
