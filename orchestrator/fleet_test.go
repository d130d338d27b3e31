package orchestrator

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/version"
	"drydock/orchestrator/store"
)

// newTestFleet knows h1 to hN, written at the revisions 1 to N, and was read at N.
func newTestFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := &fleet{hosts: make(map[string]store.Item[*drydockv1.HostRecord])}
	for i := range n {
		f.write(t, fmt.Sprintf("h%d", i+1), int64(i+1))
	}
	f.changes, f.complete = nil, int64(n)
	return f
}

func (f *fleet) write(t *testing.T, name string, revision int64) {
	t.Helper()
	data, err := proto.Marshal(&drydockv1.HostRecord{Name: name, Address: fmt.Sprintf("%s:%d", name, revision)})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.set(hostKey(name), data, revision); err != nil {
		t.Fatal(err)
	}
}

// told is what a host hears of the others.
func (f *fleet) told(host string, since int64) string {
	to := new(drydockv1.ReportResponse)
	f.tellPeers(host, since, to)
	var names []string
	for _, peer := range to.GetPeers() {
		names = append(names, peer.GetAddress())
	}
	slices.Sort(names)
	slices.Sort(to.PeersRemoved)
	return fmt.Sprintf("%s -%s %t %d of %d", strings.Join(names, " "), strings.Join(to.GetPeersRemoved(), " -"), to.GetPeersChanged(), to.GetPeersRevision(), to.GetPeersCount())
}

func TestAHostIsToldWhatHasChangedSinceItKnewTheOthers(t *testing.T) {
	f := newTestFleet(t, 3)
	for i, step := range []struct {
		change func()
		since  int64
		want   string
	}{
		{func() {}, 0, "h2:2 h3:3 - false 3 of 2"},
		{func() {}, 3, " - true 3 of 2"},
		{func() {}, 2, "h3:3 - true 3 of 2"}, // it knew them of an earlier leader
		{func() { f.write(t, "h2", 7) }, 3, "h2:7 - true 7 of 2"},
		{func() { f.write(t, "h1", 8) }, 7, " - true 8 of 2"}, // itself
		{func() { f.write(t, "h4", 9); f.unset(hostKey("h3"), 10) }, 7, "h4:9 -h3 true 10 of 2"},
		{func() { f.write(t, "h3", 11); f.write(t, "h3", 12) }, 7, "h3:12 h4:9 - true 12 of 3"},
		{func() {}, 12, " - true 12 of 3"},
		{func() {}, 0, "h2:7 h3:12 h4:9 - false 12 of 3"},
	} {
		step.change()
		if got := f.told("h1", step.since); got != step.want {
			t.Errorf("step %d: told %q, not %q", i, got, step.want)
		}
	}
}

func TestOfManyChangesTheOldOnesAreForgottenAndNobodyMissesThem(t *testing.T) {
	f := newTestFleet(t, 2)
	for i := range 3 * keepChanges {
		f.write(t, "h2", int64(10+i))
	}
	if len(f.changes) >= 2*keepChanges {
		t.Errorf("%d changes are kept", len(f.changes))
	}
	last := 10 + 3*keepChanges - 1
	for _, since := range []int64{2, 10, int64(last - 1)} {
		if got, want := f.told("h1", since), fmt.Sprintf("h2:%d - true %d of 1", last, last); got != want {
			t.Errorf("since %d: told %q, not %q", since, got, want)
		}
	}
}

// reported is the revision at which the store has a host's report.
func (l *lab) reported(host string) int64 {
	l.Helper()
	item, err := store.Get[drydockv1.HostReport](l.Context(), l.store, reportKey(host))
	l.must(err)
	return item.Revision
}

func TestAReportThatSaysNothingNewIsNotWritten(t *testing.T) {
	k := clockAt(time.Now())
	l := newLab(t, timed(k))
	h := l.join("h1")
	h.set(func() { h.silent = true })
	l.join("h2") // some time goes by, and h1's last report is in
	request := &drydockv1.ReportRequest{
		BootId: h.boot, Address: h.address, StatusDigest: "a", Status: &drydockv1.HostStatus{},
		Info: &drydockv1.HostInfo{Api: version.API, Kernel: "6.1", MemoryAvailableBytes: 1, Uptime: durationpb.New(time.Second), Load: []float64{1}},
	}
	report := func() int64 {
		_, err := h.coord.Report(t.Context(), connect.NewRequest(request))
		l.must(err)
		return l.reported("h1")
	}
	first := report()
	request.Info.MemoryAvailableBytes, request.Info.Uptime, request.Info.Load = 2<<30, durationpb.New(time.Minute), []float64{2}
	if report() != first {
		t.Error("it was written for what changes all the time")
	}
	seen, err := l.host(t.Context(), "h1")
	if err != nil || seen.report.GetInfo().GetMemoryAvailableBytes() != 2<<30 {
		t.Errorf("what was said is not known: %v, %v", seen.report, err)
	}
	request.Info.Kernel = "6.2"
	second := report()
	if second == first {
		t.Error("another kernel was not written")
	}
	request.Pods = []*drydockv1.Pod{{Spec: &drydockv1.PodSpec{Name: "web"}}}
	if third := report(); third == second {
		t.Error("a pod was not written")
	}
	k.forward(2 * keepReport)
	before := l.reported("h1")
	if report() == before {
		t.Error("after a while it was not written again")
	}
}

func TestEveryFieldOfAHostsDescriptionIsNewsOrChangesAllTheTime(t *testing.T) {
	restless := []string{"memory_available_bytes", "disk_available_bytes", "uptime", "load", "filesystems"}
	said := new(drydockv1.ReportRequest)
	data, err := os.ReadFile("../api/testdata/api1/ReportRequest.binpb") // every field of it is set
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(data, said); err != nil {
		t.Fatal(err)
	}
	all := said.GetInfo()
	fields := all.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		less := proto.CloneOf(all)
		less.ProtoReflect().Clear(field)
		if same := sameInfo(all, less); same != slices.Contains(restless, string(field.Name())) {
			t.Errorf("without %s it says the same: %t", field.Name(), same)
		}
	}
}

func TestALeaderThatBeginsKnowsWhatWasKept(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	l.image("")
	l.mustRun("web", "")
	h.set(func() { h.silent = true })
	l.stop()
	l.start()
	known, err := l.host(t.Context(), "h1")
	if err != nil || known.report == nil || known.report.GetBootId() != "h1-boot-1" || !known.answers() {
		t.Errorf("got %v, %v", known, err)
	}
	h.set(func() { h.silent = false })
	l.eventually("the pod runs and its host reports", func() bool { return l.view("web").GetPhase() == phaseRunning })
}

func TestNobodyFallsSilentBecauseTheClockIsSet(t *testing.T) {
	k := clockAt(time.Now())
	c := newCluster(t, plainPool, timed(k))
	for range 20 {
		k.forward(24 * time.Hour)
		if known, err := c.host(t.Context(), "h1"); err != nil || !known.answers() {
			t.Fatalf("h1 is %s: %s; %v", known.state, known.message, err)
		}
	}
}
