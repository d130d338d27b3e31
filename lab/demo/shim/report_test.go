package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/lab/shop"

	"github.com/google/go-cmp/cmp"
)

// good is a report of a run in which nothing went wrong.
func good() Report {
	r := Report{Upgrades: 10, Migrations: 4}
	for _, client := range shop.Versions {
		for _, server := range shop.Versions {
			for _, protocol := range []string{"grpc", "http"} {
				r.Pairs = append(r.Pairs, Pair{Client: client, Server: server, Protocol: protocol, Calls: 9, Disallowed: 1})
			}
		}
	}
	return r
}

func TestARunPassesOnlyWhereNothingWentWrong(t *testing.T) {
	if err := good().verdict(); err != nil {
		t.Error(err)
	}
	for want, spoil := range map[string]func(*Report){
		"2 calls of v1 clients to v1 servers failed over grpc": func(r *Report) { r.Pairs[0].Failed = 2 },
		"no v1 client called a v1 server over grpc":            func(r *Report) { r.Pairs = r.Pairs[1:] },
		"9 pods were upgraded, not 10":                         func(r *Report) { r.Upgrades-- },
		"no pod moved":                                         func(r *Report) { r.Migrations = 0 },
		"1 writes were lost":                                   func(r *Report) { r.WritesLost = 1 },
		"no call was disallowed": func(r *Report) {
			for i := range r.Pairs {
				r.Pairs[i].Disallowed = 0
			}
		},
	} {
		r := good()
		spoil(&r)
		if err := r.verdict(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// memory is a shop without servers; it answers as one of v2.
type memory map[string]shop.Sold

func (m memory) Put(_ context.Context, id string, s shop.Sold) (string, error) {
	m[id] = s
	return "v2", nil
}
func (m memory) Get(_ context.Context, id string) (shop.Sold, string, error) { return m[id], "v2", nil }
func (m memory) Close() error                                                { return nil }

func TestClientsCountWhatBecomesOfTheirCalls(t *testing.T) {
	b, m := newBook(), memory{}
	c := newClient("v1", "http", m, b, 1)
	var own []string
	for range 50 {
		own = c.round(t.Context(), own)
	}
	if n := c.stats[between{"v1", "v2", "http"}]; n.made != 100 || n.translated != 100 || n.failed != 0 || len(own) != b.size() || len(own) == 50 {
		t.Errorf("%d orders, %+v", len(own), n)
	}
	delete(m, own[0])
	if err := c.read(t.Context(), own[0]); err == nil || c.fault() == "" {
		t.Error("an order that was lost is not missed")
	}
	if err := c.call(t.Context(), func(context.Context) (string, error) { return "v1", shop.ErrDisallowed }); err != nil {
		t.Error(err)
	}
	if err := c.call(t.Context(), func(context.Context) (string, error) { return "", errors.New("reset") }); err == nil {
		t.Error("a call that failed is not reported")
	}
	r := Report{}
	r.add([]*client{c})
	for i := range r.Pairs {
		r.Pairs[i].P50, r.Pairs[i].P99 = 0, 0
	}
	want := []Pair{
		{Client: "v1", Server: "unknown", Protocol: "http", Calls: 1, Failed: 1},
		{Client: "v1", Server: "v1", Protocol: "http", Calls: 1, Disallowed: 1},
		{Client: "v1", Server: "v2", Protocol: "http", Calls: 101, Translated: 100, Failed: 1},
	}
	if diff := cmp.Diff(want, r.Pairs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPercentilesAreOfSortedTimes(t *testing.T) {
	var took []time.Duration
	for i := range 200 {
		took = append(took, time.Duration(i+1)*time.Millisecond)
	}
	if p50, p99 := percentile(took, 50), percentile(took, 99); p50 != 100 || p99 != 198 || percentile(nil, 50) != 0 {
		t.Errorf("p50 is %v, p99 %v", p50, p99)
	}
}

func TestTheReportHasTheNamesThatItsReadersKnow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo-shim.json")
	r := good()
	r.Pairs = r.Pairs[:1]
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"upgrades": 10.0, "migrations": 4.0, "writes_lost": 0.0, "pairs": []any{map[string]any{
		"client": "v1", "server": "v1", "protocol": "grpc", "calls": 9.0, "translated": 0.0, "disallowed": 1.0, "failed": 0.0, "p50_ms": 0.0, "p99_ms": 0.0,
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
