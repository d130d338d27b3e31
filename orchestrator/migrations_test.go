package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

const (
	committed = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED
	aborted   = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED
	refusedTo = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED
)

func progressEvent(step string) *drydockv1.MigratePodResponse {
	return &drydockv1.MigratePodResponse{Event: &drydockv1.MigratePodResponse_Progress{Progress: &drydockv1.MigrationProgress{Step: step}}}
}

func reportEvent(spec *drydockv1.MigrationSpec, outcome drydockv1.MigrationOutcome) *drydockv1.MigratePodResponse {
	return &drydockv1.MigratePodResponse{Event: &drydockv1.MigratePodResponse_Report{Report: &drydockv1.MigrationReport{
		Id: spec.GetId(), Pod: spec.GetPod(), From: spec.GetFrom(), To: spec.GetTo(), Mode: spec.GetMode(), Outcome: outcome,
		Steps: []*drydockv1.StepReport{{Name: "check"}},
	}}}
}

// begin asks the controller for the move, as a source does before its freeze.
func (h *fakeHost) begin(ctx context.Context, spec *drydockv1.MigrationSpec, boot string) error {
	_, err := h.coord.BeginMove(ctx, connect.NewRequest(&drydockv1.BeginMoveRequest{
		Pod: spec.GetPod(), Migration: spec.GetId(), Destination: spec.GetTo(), DestinationBootId: boot, Epoch: spec.GetEpoch(),
	}))
	return err
}

// decide asks for commit, as a destination does, and takes the pod over.
func (h *fakeHost) decide(ctx context.Context, spec *drydockv1.MigrationSpec) error {
	answer, err := h.coord.Decide(ctx, connect.NewRequest(&drydockv1.DecideRequest{Pod: spec.GetPod(), Migration: spec.GetId(), Commit: true}))
	if err != nil {
		return err
	}
	if !answer.Msg.GetCommitted() {
		return errors.New("not committed")
	}
	record, err := owner.Decode(answer.Msg.GetOwner().GetRecord(), 1)
	if err != nil {
		return err
	}
	h.set(func() { h.pods[spec.GetPod()], h.remains[spec.GetPod()] = record.Epoch, true })
	_, err = h.coord.ReportOwner(ctx, connect.NewRequest(&drydockv1.ReportOwnerRequest{
		Pod: spec.GetPod(), Epoch: record.Epoch, BootId: h.boot, Event: drydockv1.OwnerEvent_OWNER_EVENT_SETTLED,
	}))
	return err
}

// moves is how a healthy source migrates to whichever of the hosts is asked for.
func (h *fakeHost) moves(to ...*fakeHost) {
	h.set(func() {
		h.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			if err := send(progressEvent("check")); err != nil {
				return err
			}
			if spec.GetDryRun() {
				return send(reportEvent(spec, drydockv1.MigrationOutcome_MIGRATION_OUTCOME_UNSPECIFIED))
			}
			for _, destination := range to {
				if destination.name == spec.GetTo() {
					if err := errors.Join(h.begin(ctx, spec, destination.boot), destination.decide(ctx, spec)); err != nil {
						return err
					}
				}
			}
			h.set(func() { delete(h.pods, spec.GetPod()); delete(h.remains, spec.GetPod()) })
			return errors.Join(send(progressEvent("clean")), send(reportEvent(spec, committed)))
		}
	})
}

func (l *lab) move(ctx context.Context, pod, to string, dry bool) ([]string, *drydockv1.MigrationReport, error) {
	stream, err := l.admin.MigratePod(ctx, connect.NewRequest(&drydockv1.MigratePodRequest{Pod: pod, To: to, DryRun: dry}))
	if err != nil {
		return nil, nil, err
	}
	defer stream.Close()
	var steps []string
	var report *drydockv1.MigrationReport
	for stream.Receive() {
		if progress := stream.Msg().GetProgress(); progress != nil {
			steps = append(steps, progress.GetStep())
		} else {
			report = stream.Msg().GetReport()
		}
	}
	return steps, report, stream.Err()
}

func (l *lab) report(id string) *drydockv1.MigrationReport {
	l.Helper()
	response, err := l.admin.GetMigration(context.Background(), connect.NewRequest(&drydockv1.GetMigrationRequest{Id: id}))
	l.must(err)
	return response.Msg.GetMigration()
}

// pair is two hosts, and a pod on the first.
func pair(t *testing.T) (*lab, *fakeHost, *fakeHost) {
	t.Helper()
	l := newLab(t)
	hosts := l.joinAll("h1", "h2")
	h1, h2 := hosts[0], hosts[1]
	l.image("h1")
	l.mustRun("web", "h1")
	h1.moves(h2)
	h2.moves(h1)
	return l, h1, h2
}

func TestAMigrationIsRelayedAndItsReportKept(t *testing.T) {
	l, h1, h2 := pair(t)
	steps, report, err := l.move(t.Context(), "web", "h2", true)
	if err != nil || len(steps) != 1 || report == nil || !h1.runs("web") {
		t.Errorf("dry run: %v %v, %v", steps, report, err)
	}
	if kept, err := l.listMigrations(t.Context(), "", 0); err != nil || len(kept) != 0 {
		t.Errorf("a dry run is kept: %v, %v", kept, err)
	}
	steps, report, err = l.move(t.Context(), "web", "h2", false)
	if err != nil || report.GetOutcome() != committed || fmt.Sprint(steps) != "[check clean]" {
		t.Fatalf("got %v %v, %v", steps, report, err)
	}
	if pod := l.view("web"); pod.GetHost() != "h2" || pod.GetPhase() != phaseRunning || pod.GetMigration() != "" || !h2.runs("web") || h1.runs("web") {
		t.Errorf("got %v", pod)
	}
	if got := l.report(report.GetId()); got.GetOutcome() != committed || len(got.GetSteps()) != 1 {
		t.Errorf("got %v", got)
	}
	if _, _, err := l.move(t.Context(), "web", "h1", false); err != nil {
		t.Errorf("back: %v", err)
	}
	if kept, err := l.listMigrations(t.Context(), "web", 1); err != nil || len(kept) != 1 || kept[0].GetTo() != "h1" {
		t.Errorf("got %v, %v", kept, err)
	}
}

func TestAMigrationThatCannotBeIsRefusedWithEveryReason(t *testing.T) {
	l, _, h2 := pair(t)
	_, _, err := l.move(t.Context(), "none", "h9", false)
	if connect.CodeOf(err) != connect.CodeNotFound || !contains(err.Error(), "none") || !contains(err.Error(), "h9") {
		t.Errorf("got %v", err)
	}
	_, _, err = l.move(t.Context(), "web", "h1", false)
	l.refused(err, "pod web is on h1 already")
	h2.set(func() { h2.silent = true })
	l.eventually("h2 is unreachable", func() bool { h, err := l.host(t.Context(), "h2"); return err == nil && h.state == hostUnreachable })
	_, err = l.admin.StopPod(t.Context(), connect.NewRequest(&drydockv1.StopPodRequest{Name: "web"}))
	l.must(err)
	_, _, err = l.move(t.Context(), "web", "h2", false)
	l.refused(err, "pod web does not run", "host h2 does not answer")
	if kept, err := l.listMigrations(t.Context(), "", 0); err != nil || len(kept) != 0 {
		t.Errorf("something was begun: %v, %v", kept, err)
	}
}

// held makes a host's migrations wait where the test lets them.
func (h *fakeHost) held(to *fakeHost) (arrived, goOn chan struct{}) {
	arrived, goOn = make(chan struct{}, 10), make(chan struct{})
	h.moves(to)
	inner := h.migrate
	h.set(func() {
		h.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			arrived <- struct{}{}
			if err := send(progressEvent("precopy")); err != nil {
				return err
			}
			select {
			case <-goOn:
				return inner(context.WithoutCancel(ctx), spec, send)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return arrived, goOn
}

func TestAMigrationOutlivesItsOperator(t *testing.T) {
	l, h1, h2 := pair(t)
	arrived, goOn := h1.held(h2)
	ctx, cancel := contextWithCancel(t)
	left := make(chan error, 1)
	go func() {
		_, _, err := l.move(ctx, "web", "h2", false)
		left <- err
	}()
	<-arrived
	cancel()
	if err := <-left; err == nil {
		t.Error("did not leave")
	}
	_, _, err := l.move(t.Context(), "web", "h2", false)
	l.refused(err, "it is moving")
	_, err = l.admin.StopPod(t.Context(), connect.NewRequest(&drydockv1.StopPodRequest{Name: "web"}))
	l.refused(err, "it is moving")
	if pod := l.view("web"); pod.GetPhase() != phaseMoving || pod.GetDestination() != "h2" {
		t.Errorf("got %v", pod)
	}
	close(goOn)
	l.eventually("the pod is on h2", func() bool { p := l.view("web"); return p.GetHost() == "h2" && p.GetPhase() == phaseRunning })
}

func TestAnotherControllerFollowsTheMigrationsOfADeadOne(t *testing.T) {
	l, h1, h2 := pair(t)
	arrived, goOn := h1.held(h2)
	go func() { _, _, _ = l.move(context.Background(), "web", "h2", false) }()
	<-arrived
	l.stop()
	l.start()
	<-arrived
	id := l.view("web").GetMigration()
	close(goOn)
	l.eventually("the pod is on h2", func() bool { p := l.view("web"); return p.GetHost() == "h2" && p.GetPhase() == phaseRunning })
	if got := l.report(id); got.GetOutcome() != committed {
		t.Errorf("got %v", got)
	}
}

func TestAHostMayFinishAMigrationWhileNobodyFollowsIt(t *testing.T) {
	l, h1, h2 := pair(t)
	h1.set(func() {
		h1.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, _ func(*drydockv1.MigratePodResponse) error) error {
			finish := func() error {
				_, err := h1.coord.FinishMigration(ctx, connect.NewRequest(&drydockv1.FinishMigrationRequest{Report: reportEvent(spec, committed).GetReport()}))
				return err
			}
			if err := h1.begin(ctx, spec, h2.boot); err != nil {
				return err
			}
			if err := finish(); connect.CodeOf(err) != connect.CodeFailedPrecondition {
				t.Errorf("finished before it was decided: %v", err)
			}
			err := errors.Join(h2.decide(ctx, spec), finish(), finish())
			if err != nil {
				t.Error(err)
			}
			return connect.NewError(connect.CodeUnavailable, errors.New("the agent died"))
		}
	})
	_, report, err := l.move(t.Context(), "web", "h2", false)
	if err != nil || report.GetOutcome() != committed || len(report.GetSteps()) != 1 {
		t.Errorf("got %v, %v", report, err)
	}
}

func TestAnAgentsRefusalEndsTheMigration(t *testing.T) {
	l, h1, _ := pair(t)
	h1.set(func() { h1.refuse = refusalOnWire(because("an open io_uring", "close it")) })
	_, report, err := l.move(t.Context(), "web", "h2", false)
	if err != nil || report.GetOutcome() != refusedTo || len(report.GetRefusals()) != 1 || report.GetRefusals()[0].GetRemedy() != "close it" {
		t.Errorf("got %v, %v", report, err)
	}
	if pod := l.view("web"); pod.GetPhase() != phaseRunning || pod.GetHost() != "h1" {
		t.Errorf("got %v", pod)
	}
}

func refusalOnWire(reason *drydockv1.Refusal) error { return refusal.OnWire(refuse("it", reason)) }

func TestABegunMigrationThatItsSourceGivesUpIsAborted(t *testing.T) {
	l, h1, h2 := pair(t)
	h1.set(func() {
		h1.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, _ func(*drydockv1.MigratePodResponse) error) error {
			if err := h1.begin(ctx, spec, h2.boot); err != nil {
				return err
			}
			return connect.NewError(connect.CodeFailedPrecondition, errors.New("cannot go on"))
		}
	})
	_, report, err := l.move(t.Context(), "web", "h2", false)
	if err != nil || report.GetOutcome() != aborted || l.owner("web").Outcome != owner.Abort || l.owner("web").Owner.Host != "h1" {
		t.Errorf("got %v %v, %v", report, l.owner("web"), err)
	}
}

func TestOnlyTheHostsOfAMigrationMayDecideIt(t *testing.T) {
	l, h1, h2 := pair(t)
	stranger := l.join("h3")
	var tried bool
	h1.moves(h2)
	inner := h1.migrate
	h1.set(func() {
		h1.migrate = func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error {
			tried = true
			if err := stranger.begin(ctx, spec, h2.boot); connect.CodeOf(err) != connect.CodeFailedPrecondition {
				t.Errorf("a stranger begins: %v", err)
			}
			if err := stranger.decide(ctx, spec); connect.CodeOf(err) != connect.CodePermissionDenied {
				t.Errorf("a stranger decides: %v", err)
			}
			_, err := stranger.coord.FinishMigration(ctx, connect.NewRequest(&drydockv1.FinishMigrationRequest{Report: reportEvent(spec, committed).GetReport()}))
			if connect.CodeOf(err) != connect.CodePermissionDenied {
				t.Errorf("a stranger finishes: %v", err)
			}
			other := &drydockv1.MigrationSpec{Id: "m-none", Pod: "web", To: "h2", Epoch: spec.GetEpoch()}
			if err := h1.begin(ctx, other, h2.boot); connect.CodeOf(err) != connect.CodeFailedPrecondition {
				t.Errorf("a migration that nobody asked for begins: %v", err)
			}
			return inner(ctx, spec, send)
		}
	})
	if _, report, err := l.move(t.Context(), "web", "h2", false); err != nil || report.GetOutcome() != committed || !tried {
		t.Errorf("got %v, %v", report, err)
	}
}

func TestOnlyTheLastReportsAreKept(t *testing.T) {
	l := newLab(t)
	for i := range keepMigrations + 5 {
		id := fmt.Sprintf("m%06d-x", i)
		record := &drydockv1.MigrationRecord{Spec: &drydockv1.MigrationSpec{Id: id}}
		if i > 0 {
			record.Report = &drydockv1.MigrationReport{Id: id}
		}
		_, err := l.store.Txn().Put(migrationKey(id), record).Commit(t.Context())
		l.must(err)
	}
	l.must(l.prune(t.Context()))
	items, err := store.List[drydockv1.MigrationRecord](t.Context(), l.store, keyMigrations)
	l.must(err)
	if len(items) != keepMigrations+1 || items[0].Value.GetReport() != nil || items[1].Value.GetSpec().GetId() != "m000005-x" {
		t.Errorf("%d kept, first %v and %v", len(items), items[0].Value, items[1].Value)
	}
}

func TestMigrationIDsSortByTime(t *testing.T) {
	now := time.Now()
	if a, b := newMigrationID(now), newMigrationID(now.Add(time.Millisecond)); a >= b {
		t.Errorf("%s is not before %s", a, b)
	}
}
