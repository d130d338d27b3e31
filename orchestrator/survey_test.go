package orchestrator

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/stack"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/plan/wire"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/store"
)

func TestForecastsGoByTheMedianOfPastMigrations(t *testing.T) {
	defaults := plan.Rates{Bandwidth: 250 << 20, Freeze: 350 * time.Millisecond, Move: 2 * time.Second}
	begun := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var mode drydockv1.MigrationMode
	migration := func(outcome drydockv1.MigrationOutcome, freeze, all time.Duration, bytes int64, dump time.Duration) store.Item[*drydockv1.MigrationRecord] {
		return store.Item[*drydockv1.MigrationRecord]{Value: &drydockv1.MigrationRecord{Report: &drydockv1.MigrationReport{
			Outcome: outcome, Mode: mode, Freeze: durationpb.New(freeze), Estimate: &drydockv1.Estimate{MemoryBytes: bytes},
			Started: timestamppb.New(begun), Finished: timestamppb.New(begun.Add(all)),
			Steps: []*drydockv1.StepReport{{Name: "dump", Bytes: bytes, Took: durationpb.New(dump)}},
		}}}
	}
	aborted := drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED
	if diff := cmp.Diff(defaults, measured(defaults, []store.Item[*drydockv1.MigrationRecord]{migration(aborted, time.Hour, time.Hour, 1<<30, time.Hour)})); diff != "" {
		t.Error(diff)
	}
	mode = wire.Mode(plan.Precopy)
	ahead := migration(committed, 10*time.Millisecond, time.Minute, 100<<20, time.Millisecond) // copied before it was frozen
	mode = wire.Mode(plan.Stop)
	got := measured(defaults, []store.Item[*drydockv1.MigrationRecord]{
		ahead,
		migration(committed, 1200*time.Millisecond, 3200*time.Millisecond, 100<<20, time.Second),
		migration(committed, 1100*time.Millisecond, 2100*time.Millisecond, 100<<20, time.Second),
		migration(committed, 9*time.Second, 20*time.Second, 100<<20, 50*time.Second),
		migration(committed, 200*time.Millisecond, 2200*time.Millisecond, 1<<20, time.Millisecond), // too little to tell its speed
	})
	want := plan.Rates{Bandwidth: 100 << 20, Freeze: 200 * time.Millisecond, Move: 2 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHostsAreTogetherWhereTheNetworkIsProvenBetweenAllOfThem(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"h1", "h2", "h3"} {
		h := l.join(name)
		h.set(func() {
			h.reach = func(peer string) *drydockv1.ReachPeerResponse {
				fine := name != "h3" && peer != "h3"
				return &drydockv1.ReachPeerResponse{Reachable: true, Tried: true, CarriesForeignMac: fine, Reason: "the switch drops it"}
			}
		})
	}
	members := []string{"h1", "h2", "h3"}
	l.eventually("h3 stands alone", func() bool {
		known, err := l.links(t.Context())
		l.must(err)
		groups := networksOf(members, known)
		return groups["h1"] == "h1" && groups["h2"] == "h1" && groups["h3"] == "h3"
	})
	known, err := l.links(t.Context())
	l.must(err)
	p, err := pool.Parse("web.yaml", []byte("name: web\nhosts: {names: [h1, h2, h3]}\n"))
	l.must(err)
	s := l.newSurvey(nil, p, "")
	l.must(s.look(t.Context()))
	if why := s.pair(plan.Stack{Network: "h1"}, plan.Stack{Network: "h3"}, known); why == nil || why.Reason == "" || why.Remedy == "" {
		t.Errorf("got %v", why)
	}
	if why := s.pair(plan.Stack{Network: "h1"}, plan.Stack{Network: "h1"}, known); why != nil {
		t.Errorf("got %v", why)
	}
}

func TestPrecopyIsCountedOnWhereEveryHostTracksWrites(t *testing.T) {
	able, unable := &drydockv1.HostInfo{CriuFeatures: map[string]bool{stack.TracksWrites: true}}, &drydockv1.HostInfo{}
	s := &survey{members: []string{"h1", "h2", "h3"}, away: map[string]*drydockv1.Refusal{"h3": because("it is cordoned", "resume it")}}
	for _, test := range []struct {
		second *drydockv1.HostInfo
		want   bool
	}{{able, true}, {unable, false}} {
		s.hosts = map[string]host{"h1": {report: &drydockv1.HostReport{Info: able}}, "h2": {report: &drydockv1.HostReport{Info: test.second}}, "h3": {}}
		if got := s.allTrackWrites(); got != test.want {
			t.Errorf("with %v: %t", test.second.GetCriuFeatures(), got)
		}
	}
}

func TestWhatAPodWritesIsWhatItWroteWhenItWasMovedLast(t *testing.T) {
	var items []store.Item[*drydockv1.MigrationRecord]
	for _, r := range []*drydockv1.MigrationReport{{Pod: "a"}, {Pod: "a", WrittenPerSecond: 7}, {Pod: "b", WrittenPerSecond: 3}, {Pod: "a", WrittenPerSecond: 9}} {
		items = append(items, store.Item[*drydockv1.MigrationRecord]{Value: &drydockv1.MigrationRecord{Report: r}})
	}
	if diff := cmp.Diff(map[string]int64{"a": 7, "b": 3}, writtenBy(items)); diff != "" {
		t.Error(diff)
	}
}

func TestAPatchedHostTakesFromAnOlderOneAndNotTheOtherWayRound(t *testing.T) {
	s := &survey{pool: &pool.Pool{}, features: map[string][]string{}, patches: map[string]*drydockv1.Patch{"h1": {
		Packages: []*drydockv1.PinnedPackage{{Name: "criu", To: "4.3-1~deb13u1"}, {Name: "linux-image-amd64", To: "6.12.94"}}, Kernel: "6.12.94-amd64", RebootRequired: true,
	}}}
	s.hosts = map[string]host{"h1": {report: &drydockv1.HostReport{Info: &drydockv1.HostInfo{
		Kernel: "6.12.1-amd64", CriuVersion: "4.2", Arch: "x86_64", CpuFeatures: []string{"sse", "avx"}, Cpus: 4, MemoryAvailableBytes: 1 << 30,
	}}}}
	s.pods = []surveyed{{host: "h1", used: 1 << 20}}
	h := s.planHost("h1", "h1")
	if h.After.CRIU != "4.3" || h.After.Kernel != "6.12.94-amd64" || h.CPU != 4000 || h.Memory != 1<<30+1<<20 || !h.RebootRequired {
		t.Errorf("got %+v", h)
	}
	if why := s.pair(h.Before, h.After, links{}); why != nil {
		t.Errorf("a patched host does not take over: %v", why)
	}
	if why := s.pair(h.After, h.Before, links{}); why == nil {
		t.Error("an older host takes over from a patched one")
	}
}

func TestWhatAPodTakesIsWhatItAsksForOrUses(t *testing.T) {
	p, err := pool.Parse("web.yaml", []byte("name: web\nhosts: {names: [h1, h2]}\npods: {apart: [{name: db, labels: {app: db}}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := &survey{pool: p}
	spec := &drydockv1.PodSpec{Name: "a", Affinity: "h2", Labels: map[string]string{"app": "db"}, AllowPostcopy: true, Containers: []*drydockv1.Container{
		{Resources: &drydockv1.Resources{CpuLimitMillis: 500, MemoryLimitBytes: 100}}, {Resources: &drydockv1.Resources{CpuRequestMillis: 100, CpuLimitMillis: 900}},
	}}
	got := s.planPod(surveyed{spec: spec, host: "h1", used: 70, files: 5})
	want := plan.Pod{
		Name: "a", Host: "h1", Home: "h2", CPU: 600, Memory: 100, Used: 70, FileBytes: 5, Modes: []plan.Mode{plan.Stop, plan.Postcopy}, Apart: []plan.Apart{{Group: "db"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := s.planPod(surveyed{spec: spec, host: "h1", used: 700}); got.Memory != 700 || slices.Contains(got.Modes, plan.Precopy) {
		t.Errorf("got %+v", got)
	}
}
