package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

func (l *lab) drain(name string, dry bool) ([]*drydockv1.MigrationReport, *drydockv1.DrainSummary, error) {
	stream, err := l.admin.DrainHost(l.Context(), connect.NewRequest(&drydockv1.DrainHostRequest{Name: name, DryRun: dry}))
	if err != nil {
		return nil, nil, err
	}
	defer stream.Close()
	var reports []*drydockv1.MigrationReport
	var summary *drydockv1.DrainSummary
	for stream.Receive() {
		switch event := stream.Msg().GetEvent().(type) {
		case *drydockv1.DrainHostResponse_Report:
			reports = append(reports, event.Report)
		case *drydockv1.DrainHostResponse_Summary:
			summary = event.Summary
		}
	}
	return reports, summary, stream.Err()
}

func TestADrainMovesEveryPodAndKeepsTheHostCordoned(t *testing.T) {
	l, h1, h2 := pair(t)
	for i := range 4 {
		l.mustRun(fmt.Sprintf("p%d", i), "h1")
	}
	_, summary, err := l.drain("h1", true)
	if err != nil || summary.GetMoved() != 5 || summary.GetRemaining() != 0 || !h1.runs("web") {
		t.Errorf("dry run: %v, %v", summary, err)
	}
	reports, summary, err := l.drain("h1", false)
	if err != nil || summary.GetMoved() != 5 || summary.GetRemaining() != 0 || len(reports) != 5 || len(summary.GetRefusals()) != 0 {
		t.Fatalf("got %v, %v", summary, err)
	}
	if h, err := l.host(t.Context(), "h1"); err != nil || h.state != hostCordoned || h.record.GetCordon().GetDrain() != nil || h.record.GetCordon().GetOwner() != fmt.Sprintf("uid %d", os.Getuid()) {
		t.Errorf("got %v, %v", h, err)
	}
	for _, pod := range []string{"web", "p0", "p1", "p2", "p3"} {
		if !h2.runs(pod) || h1.runs(pod) {
			t.Errorf("pod %s is not on h2", pod)
		}
	}
	response, err := l.admin.ResumeHost(t.Context(), connect.NewRequest(&drydockv1.ResumeHostRequest{Name: "h1"}))
	if err != nil || response.Msg.GetHost().GetState() != hostReady {
		t.Errorf("got %v, %v", response, err)
	}
}

func TestADrainTriesTheNextHostAndSaysWhatStays(t *testing.T) {
	l, h1, h2 := pair(t)
	h3 := l.joinAll("h3")[0]
	h2.set(func() { h2.memory = 8 << 30 })
	l.eventually("h2 has the most memory", func() bool {
		h, err := l.host(t.Context(), "h2")
		return err == nil && h.report.GetInfo().GetMemoryAvailableBytes() == 8<<30
	})
	l.mustRun("stuck", "h1")
	h1.moves(h3)
	inner := h1.migrate
	h1.set(func() {
		h1.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			if spec.GetTo() == "h2" || spec.GetPod() == "stuck" {
				report := reportEvent(spec, refusedTo)
				report.GetReport().Refusals = []*drydockv1.Refusal{because("no CRIU on "+spec.GetTo(), "install it")}
				return send(report)
			}
			return inner(ctx, spec, send)
		}
	})
	_, summary, err := l.drain("h1", false)
	if err != nil || summary.GetMoved() != 1 || summary.GetRemaining() != 1 || !h3.runs("web") {
		t.Fatalf("got %v, %v", summary, err)
	}
	if got := summary.GetRefusals(); len(got) != 2 || got[0].GetReason() != "pod stuck: no CRIU on h2" || got[1].GetReason() != "pod stuck: no CRIU on h3" {
		t.Errorf("got %v", got)
	}
}

func TestADrainGoesOnUnderTheNextController(t *testing.T) {
	l, h1, h2 := pair(t)
	l.mustRun("p0", "h1")
	arrived, goOn := h1.held(h2)
	go func() { _, _, _ = l.drain("h1", false) }()
	<-arrived
	l.stop()
	l.start()
	close(goOn)
	l.eventually("h1 is empty", func() bool {
		pods, err := l.running(t.Context(), "h1")
		h, err2 := l.host(t.Context(), "h1")
		return errors.Join(err, err2) == nil && len(pods) == 0 && h.record.GetCordon() != nil && h.record.GetCordon().GetDrain() == nil
	})
}

func TestADrainOfNothingOrNobody(t *testing.T) {
	l := newLab(t)
	if _, _, err := l.drain("h9", false); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("got %v", err)
	}
	l.join("h1")
	if _, summary, err := l.drain("h1", false); err != nil || summary.GetMoved() != 0 || summary.GetRemaining() != 0 {
		t.Errorf("got %v, %v", summary, err)
	}
}
