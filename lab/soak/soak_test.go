package soak

import (
	"strings"
	"testing"
)

func TestMemoryMayGrowByNoiseOnly(t *testing.T) {
	steady := Memory{Node: "h1", Service: "agent", Early: 24 << 20, Late: 30 << 20, OpenEarly: 18, OpenLate: 20}
	if grew := steady.grew(); grew != "" {
		t.Errorf("got %q", grew)
	}
	fat := steady
	fat.Late = 64 << 20
	if grew := fat.grew(); !strings.Contains(grew, "h1 memory of agent") {
		t.Errorf("got %q", grew)
	}
	open := steady
	open.OpenLate = 118
	if grew := open.grew(); !strings.Contains(grew, "h1 open files of agent") {
		t.Errorf("got %q", grew)
	}
}

func TestWhateverIsLostFailsTheSoak(t *testing.T) {
	whole := Report{Moves: 100, ConnectionsBefore: 21, ConnectionsAfter: 21, AckedWrites: 5}
	for _, c := range []struct {
		harm func(*Report)
		says string
	}{
		{func(*Report) {}, ""},
		{func(r *Report) { r.ConnectionsAfter-- }, "1 of 21 connections were lost"},
		{func(r *Report) { r.AckedWritesLost = 2 }, "2 of 5 acknowledged writes were lost"},
		{func(r *Report) { r.Moves = 99 }, "99 of 100 moves were made"},
		{func(r *Report) { r.Leaks = []string{"h1 mount"} }, "leak: h1 mount"},
	} {
		s := &soak{Config: Config{Moves: 100}, report: whole}
		c.harm(&s.report)
		err := s.verdict()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("got %v, want %q", err, c.says)
		}
	}
}
