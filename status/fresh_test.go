package status

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// runFresh keeps a status fresh until the test ends.
func runFresh(t *testing.T, f *Fresh) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// await asks until the answer is yes; the test's own time limit is the only one.
func await(f *Fresh, yes func(*drydockv1.HostStatus) bool) {
	for {
		if latest := f.Latest(); latest != nil && yes(latest.Status) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestAStatusChangesWithTheFilesThatItComesFrom(t *testing.T) {
	c := newTestCollector(t, &store{inventory: &packages.Inventory{}})
	f := &Fresh{Collector: c, Every: time.Hour, Log: slog.New(slog.DiscardHandler)}
	runFresh(t, f)
	await(f, func(s *drydockv1.HostStatus) bool { return !s.Reboot.Required })
	writeFile(t, filepath.Join(c.Run, "reboot-required"), "x\n")
	await(f, func(s *drydockv1.HostStatus) bool { return s.Reboot.Required })
}

func TestSourcesAreAskedWhenThatWasLongAgoAndOtherwiseNot(t *testing.T) {
	for name, test := range map[string]struct {
		refresh time.Duration
		last    time.Time
		want    int
	}{
		"long ago":      {time.Hour, time.Now().Add(-2 * time.Hour), 1},
		"never":         {time.Hour, time.Time{}, 1},
		"just now":      {time.Hour, time.Now(), 0},
		"not by itself": {0, time.Time{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{inventory: &packages.Inventory{}}
			f := &Fresh{
				Collector: newTestCollector(t, s), Every: time.Hour, Refresh: test.refresh, Log: slog.New(slog.DiscardHandler),
				Refreshed: func() (time.Time, error) { return test.last, nil },
			}
			runFresh(t, f)
			await(f, func(*drydockv1.HostStatus) bool { return true })
			f.Collector.mu.Lock()
			defer f.Collector.mu.Unlock()
			if s.refreshed != test.want {
				t.Errorf("asked %d times, not %d", s.refreshed, test.want)
			}
		})
	}
}

func TestADigestChangesWithTheContentAndNotWithTheTime(t *testing.T) {
	one := &drydockv1.HostStatus{
		Kernel:   &drydockv1.KernelStatus{State: &drydockv1.PartState{Collected: timestamppb.Now()}, Running: "6.12"},
		Packages: &drydockv1.PackageStatus{State: &drydockv1.PartState{Collected: timestamppb.Now()}},
	}
	later := proto.CloneOf(one)
	later.Kernel.State.Collected = timestamppb.New(time.Now().Add(time.Hour))
	if Digest(one) != Digest(later) || Digest(one) == "" {
		t.Error("it changes with the time")
	}
	later.Packages.State.Error = "locked"
	if Digest(one) == Digest(later) {
		t.Error("it does not change with an error")
	}
	if one.Kernel.State.Collected == nil {
		t.Error("the status was changed")
	}
}

func TestASummaryCountsAndNamesWhatMatters(t *testing.T) {
	blocked := []*drydockv1.Refusal{{Reason: "x", Remedy: "y"}}
	s := Summarize(&drydockv1.HostStatus{
		Packages: &drydockv1.PackageStatus{
			Updates: []*drydockv1.PackageUpdate{{Name: "a", Security: true}, {Name: "b", Blocked: blocked}, {Name: "c", Held: true, Security: true}},
			Sources: []*drydockv1.PackageSource{
				{Id: "one", Confirmed: timestamppb.New(time.Unix(200, 0))},
				{Id: "two", Confirmed: timestamppb.New(time.Unix(100, 0)), Problems: []*drydockv1.MetadataProblem{
					packages.Problem(drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE, "mend it", "it is bad"),
				}},
			},
			Problems: []*drydockv1.Refusal{{Reason: "dpkg was stopped"}},
		},
		Reboot:    &drydockv1.RebootStatus{Required: true, Reasons: []*drydockv1.RebootReason{{Text: "kernel", Cause: drydockv1.RebootCause_REBOOT_CAUSE_CORE_PACKAGE}}},
		Processes: &drydockv1.ProcessStatus{Stale: []*drydockv1.StaleProcess{{Pod: "web"}, {Pod: "web"}, {}}},
	})
	if s.Updates != 3 || s.SecurityUpdates != 2 || s.BlockedUpdates != 2 || s.StaleProcesses != 3 || s.StaleInPods != 2 || len(s.StalePods) != 1 {
		t.Error(s)
	}
	if s.Faults["bad-signature"] != 1 || len(s.Problems) != 2 || s.Problems[0].Reason != "source two: it is bad" || s.MetadataConfirmed.Seconds != 100 {
		t.Error(s)
	}
	if !s.RebootRequired || s.RebootReasons[0] != "kernel" || s.RebootCauses["core-package"] != 1 {
		t.Error(s)
	}
}
