package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"

	"drydock/internal/durable"
)

// Row is one move of one pod, as demo.json has it.
type Row struct {
	Pod               string  `json:"pod"`
	App               string  `json:"app"`
	From              string  `json:"from"`
	To                string  `json:"to"`
	Mode              string  `json:"mode"`
	Blackout          float64 `json:"blackout_ms"` // the longest time that a client waited for an answer
	Freeze            float64 `json:"freeze_ms"`   // how long no process of the pod ran
	Bytes             int64   `json:"bytes"`
	ConnectionsBefore int     `json:"connections_before"`
	ConnectionsAfter  int     `json:"connections_after"` // of those
	AckedWrites       int64   `json:"acked_writes"`      // during the move
	AckedWritesLost   int64   `json:"acked_writes_lost"`
	Errors            int64   `json:"errors"`
}

// writeRows puts the rows into a file, all or nothing.
func writeRows(path string, rows []Row) error {
	if rows == nil {
		rows = []Row{}
	}
	data, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(path, append(data, '\n'), 0o644)
}

// writeTable shows the rows to people.
func writeTable(out io.Writer, rows []Row) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nPOD\tAPP\tFROM\tTO\tMODE\tBLACKOUT\tFREEZE\tSENT\tCONNECTIONS\tACKED WRITES\tLOST\tERRORS")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%.0f ms\t%.0f ms\t%s\t%d of %d\t%d\t%d\t%d\n", r.Pod, r.App, r.From, r.To, r.Mode,
			r.Blackout, r.Freeze, size(r.Bytes), r.ConnectionsAfter, r.ConnectionsBefore, r.AckedWrites, r.AckedWritesLost, r.Errors)
	}
	fmt.Fprintln(table)
	return table.Flush()
}

// verdict is what was lost or went wrong, or nil.
func (d *demo) verdict() error {
	errs := d.complaints()
	for _, r := range d.rows {
		move := fmt.Sprintf("%s from %s to %s", r.Pod, r.From, r.To)
		if lost := r.ConnectionsBefore - r.ConnectionsAfter; lost != 0 {
			errs = append(errs, fmt.Errorf("%s: %d of %d connections were lost", move, lost, r.ConnectionsBefore))
		}
		if r.ConnectionsBefore == 0 {
			errs = append(errs, fmt.Errorf("%s: there was no connection to keep", move))
		}
		if r.AckedWritesLost != 0 {
			errs = append(errs, fmt.Errorf("%s: %d acknowledged writes were lost", move, r.AckedWritesLost))
		}
	}
	if want := len(d.Modes) * len(apps()); len(d.rows) != want {
		errs = append(errs, fmt.Errorf("%d of %d moves were made", len(d.rows), want))
	}
	return errors.Join(errs...)
}

func removeIfThere(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
