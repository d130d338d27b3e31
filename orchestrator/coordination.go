package orchestrator

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

// coordinationService is CoordinationService. Any controller answers it, but Report and BeginMove: those are the
// leader's.
type coordinationService struct{ c *Controller }

// GetOwner is a linearizable read.
func (s coordinationService) GetOwner(ctx context.Context, request *connect.Request[drydockv1.GetOwnerRequest]) (*connect.Response[drydockv1.GetOwnerResponse], error) {
	if _, err := s.c.caller(ctx); err != nil {
		return nil, err
	}
	record, err := s.c.ownerOf(ctx, request.Msg.GetPod())
	if err != nil {
		return nil, err
	}
	wire, err := ownerWire(record)
	return connect.NewResponse(&drydockv1.GetOwnerResponse{Owner: wire}), err
}

// BeginMove turns the owner from running to moving, for the source of a migration that this controller was asked for.
func (s coordinationService) BeginMove(ctx context.Context, request *connect.Request[drydockv1.BeginMoveRequest]) (*connect.Response[drydockv1.BeginMoveResponse], error) {
	h, err := s.c.caller(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.c.leading(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.c.mayBegin(ctx, h.name(), request.Msg); err != nil {
		return nil, err
	}
	m := request.Msg
	record, err := r.owners.Begin(ctx, owner.Move{
		Pod: m.GetPod(), Migration: m.GetMigration(), Epoch: m.GetEpoch(), PostCopy: m.GetPostCopy(),
		Destination: owner.Place{Host: m.GetDestination(), BootID: m.GetDestinationBootId()},
	})
	if err != nil {
		return nil, err
	}
	wire, err := ownerWire(record)
	return connect.NewResponse(&drydockv1.BeginMoveResponse{Owner: wire}), err
}

func (c *Controller) mayBegin(ctx context.Context, source string, m *drydockv1.BeginMoveRequest) error {
	what := fmt.Sprintf("begin migration %s of pod %s", m.GetMigration(), m.GetPod())
	item, err := store.Get[drydockv1.MigrationRecord](ctx, c.store, migrationKey(m.GetMigration()))
	if errors.Is(err, store.ErrNotFound) {
		return refuse(what, because("there is no such migration", "ask for one with `drydock migrate`"))
	} else if err != nil {
		return err
	}
	spec := item.Value.GetSpec()
	if spec.GetPod() != m.GetPod() || spec.GetFrom() != source || spec.GetTo() != m.GetDestination() {
		return refuse(what, because(fmt.Sprintf("it is of pod %s from %s to %s", spec.GetPod(), spec.GetFrom(), spec.GetTo()), "ask for what was ordered"))
	}
	if item.Value.GetReport() != nil {
		return refuse(what, because("it has ended", "ask for another migration"))
	}
	if m.GetDestinationBootId() == "" {
		return invalid("%s: the destination's boot id is missing", what)
	}
	pod, err := c.pod(ctx, m.GetPod())
	if err != nil {
		return err
	}
	if pod.Value.GetDesired() != drydockv1.DesiredState_DESIRED_STATE_RUNNING {
		return refuse(what, because("the pod is to be stopped", "start it first: `drydock pod start "+m.GetPod()+"`"))
	}
	return nil
}

// Decide carries out a migration's one decision.
func (s coordinationService) Decide(ctx context.Context, request *connect.Request[drydockv1.DecideRequest]) (*connect.Response[drydockv1.DecideResponse], error) {
	m := request.Msg
	if _, err := s.party(ctx, m.GetPod()); err != nil {
		return nil, err
	}
	want := owner.Abort
	if m.GetCommit() {
		want = owner.Commit
	}
	record, err := s.anyone().Decide(ctx, m.GetPod(), m.GetMigration(), want)
	if err != nil {
		return nil, err
	}
	wire, err := ownerWire(record)
	return connect.NewResponse(&drydockv1.DecideResponse{Committed: record.Outcome == owner.Commit, Owner: wire}), err
}

// HandBack gives a committed pod back to the source.
func (s coordinationService) HandBack(ctx context.Context, request *connect.Request[drydockv1.HandBackRequest]) (*connect.Response[drydockv1.HandBackResponse], error) {
	m := request.Msg
	h, err := s.party(ctx, m.GetPod())
	if err != nil {
		return nil, err
	}
	record, err := s.anyone().HandBack(ctx, m.GetPod(), m.GetMigration(), owner.Place{Host: h.name(), BootID: h.record.GetBootId()})
	if err != nil {
		return nil, err
	}
	s.c.log.Warn("pod handed back", "pod", m.GetPod(), "migration", m.GetMigration(), "host", h.name(), "proof", m.GetProof())
	s.c.record(ctx, "pod hand back", "pod "+m.GetPod(), "migration "+m.GetMigration()+": "+record.Reason, nil)
	wire, err := ownerWire(record)
	return connect.NewResponse(&drydockv1.HandBackResponse{Owner: wire}), err
}

// ReportOwner takes down what became of a pod at its owner.
func (s coordinationService) ReportOwner(ctx context.Context, request *connect.Request[drydockv1.ReportOwnerRequest]) (*connect.Response[drydockv1.ReportOwnerResponse], error) {
	m := request.Msg
	h, err := s.party(ctx, m.GetPod())
	if err != nil {
		return nil, err
	}
	at := owner.Place{Host: h.name(), BootID: m.GetBootId()}
	var record owner.Record
	switch m.GetEvent() {
	case drydockv1.OwnerEvent_OWNER_EVENT_SETTLED:
		record, err = s.anyone().Settle(ctx, m.GetPod(), m.GetEpoch(), at)
	case drydockv1.OwnerEvent_OWNER_EVENT_STOPPED:
		record, err = s.anyone().ReportStopped(ctx, m.GetPod(), m.GetEpoch(), at)
	case drydockv1.OwnerEvent_OWNER_EVENT_LOST:
		record, err = s.lost(ctx, m, at)
	default:
		err = invalid("report of pod %s has no event", m.GetPod())
	}
	if err != nil {
		return nil, err
	}
	wire, err := ownerWire(record)
	return connect.NewResponse(&drydockv1.ReportOwnerResponse{Owner: wire}), err
}

// lost takes down that a pod is lost, and records it once.
func (s coordinationService) lost(ctx context.Context, m *drydockv1.ReportOwnerRequest, at owner.Place) (owner.Record, error) {
	before, err := s.c.ownerOf(ctx, m.GetPod())
	if err != nil {
		return before, err
	}
	record, err := s.anyone().ReportLost(ctx, m.GetPod(), m.GetEpoch(), at, m.GetReason())
	if err == nil && record.State == owner.Lost && record.Revision != before.Revision {
		s.c.record(ctx, "pod lost", "pod "+m.GetPod(), "host "+at.Host+": "+m.GetReason(), nil)
	}
	return record, err
}

// FinishMigration stores a migration's report.
func (s coordinationService) FinishMigration(ctx context.Context, request *connect.Request[drydockv1.FinishMigrationRequest]) (*connect.Response[drydockv1.FinishMigrationResponse], error) {
	h, err := s.c.caller(ctx)
	if err != nil {
		return nil, err
	}
	report := request.Msg.GetReport()
	if report.GetFrom() != h.name() && report.GetTo() != h.name() {
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("migration %s is not of host %s", report.GetId(), h.name()))
	}
	if err := s.c.finishMigration(ctx, report); err != nil {
		return nil, err
	}
	return connect.NewResponse(&drydockv1.FinishMigrationResponse{}), nil
}

// anyone changes owners in the ways that any controller may for an agent.
func (s coordinationService) anyone() owner.Registry { return owner.Registry{Store: s.c.owners} }

// party is the calling host, which must be one that the pod's record names.
func (s coordinationService) party(ctx context.Context, pod string) (host, error) {
	h, err := s.c.caller(ctx)
	if err != nil {
		return host{}, err
	}
	record, err := s.c.ownerOf(ctx, pod)
	if err != nil {
		return host{}, err
	}
	if record.Owner.Host != h.name() && record.Source.Host != h.name() && record.Destination.Host != h.name() {
		return host{}, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("pod %s is not of host %s", pod, h.name()))
	}
	return h, nil
}
