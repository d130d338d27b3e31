package demo

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/load"

	"github.com/google/go-cmp/cmp"
)

// whole is a demo of one round in which nothing was lost.
func whole() *demo {
	d := &demo{Config: Config{Modes: make([]drydockv1.MigrationMode, 1)}}
	for _, a := range apps() {
		d.rows = append(d.rows, Row{Pod: a.name, App: a.shows, From: "h1", To: "h2", Mode: "stop", ConnectionsBefore: 2, ConnectionsAfter: 2})
	}
	return d
}

func TestADemoThatLostNothingPasses(t *testing.T) {
	if err := whole().verdict(); err != nil {
		t.Error(err)
	}
}

func TestWhateverIsLostFailsTheDemo(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(*demo)
		says string
	}{
		{"a connection", func(d *demo) { d.rows[1].ConnectionsAfter-- }, "postgres from h1 to h2: 1 of 2 connections were lost"},
		{"no connection at all", func(d *demo) { d.rows[0].ConnectionsBefore, d.rows[0].ConnectionsAfter = 0, 0 }, "there was no connection to keep"},
		{"a write", func(d *demo) { d.rows[0].AckedWritesLost = 3 }, "redis from h1 to h2: 3 acknowledged writes were lost"},
		{"a move", func(d *demo) { d.rows = d.rows[1:] }, "3 of 4 moves were made"},
		{"a check", func(d *demo) { d.fault("workbench: pipe: gone") }, "workbench: pipe: gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := whole()
			c.harm(d)
			if err := d.verdict(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestWhatClientsFindInTheEndIsInTheRowOfTheLastMove(t *testing.T) {
	d := whole()
	d.view = newView(t.Output())
	defer d.view.close()
	found := load.Result{ConnectionsBefore: 2, ConnectionsAfter: 1, AckedWritesLost: 4, Errors: 1, FirstError: "a wrong checksum"}
	user := &traveller{app: apps()[2], last: 2}
	d.judge(user, found, nil)
	d.settle(user, found)
	want := whole().rows
	want[2].ConnectionsAfter, want[2].AckedWritesLost, want[2].Errors = 1, 4, 1
	if diff := cmp.Diff(want, d.rows); diff != "" {
		t.Error(diff)
	}
	if err := d.verdict(); err == nil || !strings.Contains(err.Error(), "a wrong checksum") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyConnectionsThatWereThereBeforeAreKept(t *testing.T) {
	if got := kept([]uint16{1, 2, 3}, []uint16{2, 3, 4}); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
}

func TestRowsHaveTheFieldsThatAreAskedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo.json")
	if err := writeRows(path, whole().rows); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(data, &rows); err != nil || len(rows) != len(apps()) {
		t.Fatalf("got %d rows, %v", len(rows), err)
	}
	want := strings.Fields("pod app from to mode blackout_ms freeze_ms bytes connections_before connections_after acked_writes acked_writes_lost errors")
	for _, name := range want {
		if _, found := rows[0][name]; !found {
			t.Errorf("%s is missing", name)
		}
	}
	for name := range rows[0] {
		if !slices.Contains(want, name) {
			t.Errorf("%s is not asked for", name)
		}
	}
}
