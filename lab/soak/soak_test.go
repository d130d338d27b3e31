package soak

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatComesAnewWithEveryMoveHasOneName(t *testing.T) {
	for _, names := range [][2]string{
		{"/run/drydock/migrations/mmwpvqsv1-trwznwmp/images", "/run/drydock/migrations/mmwpwk53-c5654xzq/images"},
		{"/snapshots/7/fs", "/snapshots/113/fs"},
		{"/blobs/sha256/e5451e5de424aaaaffff", "/blobs/sha256/0f27b06388e2aaaaffff"},
	} {
		if a, b := generic(names[0]), generic(names[1]); a != b {
			t.Errorf("%s and %s became %s and %s", names[0], names[1], a, b)
		}
	}
}

func TestALeakIsReportedByName(t *testing.T) {
	before, after := make(census), make(census)
	before.add("h1", "process", "redis-server")
	before.add("h2", "mount", "nsfs at /run/drydock/netns/redis")
	after.add("h1", "process", "redis-server")
	after.add("h2", "file", "/run/drydock/migrations/mmwpvqsv1-trwznwmp")
	after.add("h2", "file", "/run/drydock/migrations/mmwpwk53-c5654xzq")
	want := []string{"h2 file /run/drydock/migrations/ID: 0 before, 2 after"}
	if diff := cmp.Diff(want, before.more(after)); diff != "" {
		t.Error(diff)
	}
	if more := before.more(before); more != nil {
		t.Errorf("the same census has more of %v", more)
	}
}

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
