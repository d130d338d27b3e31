// Package audit keeps the record of what was changed: who asked for it and why, and what became of it. Whoever changes something enters
// first that it begins, and does not begin what cannot be entered. An entry that is there is never changed; what became of it is an
// entry of its own, which also a controller writes that does not lead any more.
package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/pki"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// The outcomes of an event. One that was cut off, with its controller, stays begun.
const (
	Begun   = "begun"
	Done    = "done"
	Failed  = "failed"
	Refused = "refused"
	// Left: whoever asked went away before the end, and what was begun goes on.
	Left = "left"
)

// Config of a Trail.
type Config struct {
	Store *store.Store
	Log   *slog.Logger
	Now   func() time.Time
	// Prefix is where all lies in the store.
	Prefix string
	// Controller is the name of the one that records.
	Controller string
}

// Trail is the record, as one controller writes it. Controllers of one store share what they read.
type Trail struct{ Config }

// New makes a Trail.
func New(cfg Config) *Trail { return &Trail{Config: cfg} }

// Events lie in the order of their ids, and beside them, by the same ids, their outcomes.
func (t *Trail) eventsPrefix() string   { return t.Prefix + "events/" }
func (t *Trail) outcomesPrefix() string { return t.Prefix + "outcomes/" }

// recordWithin is how long an outcome may take to be recorded.
const recordWithin = 5 * time.Second

// Record enters what the controller has done by itself, or an agent has asked of it: err is what became of it, nil where it was
// done. Where that cannot be kept the log says so.
func (t *Trail) Record(ctx context.Context, verb, object, reason string, err error) {
	event := t.newEvent(ctx, verb, object)
	event.Reason = reason
	event.Outcome, event.Detail = OutcomeOf(err)
	event.Ended = event.Time
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if err := t.enterEvent(ctx, event); err != nil {
		t.Log.Error("not recorded", "verb", verb, "object", object, "reason", reason, "outcome", event.GetOutcome(), "error", err)
	}
}

// Begin enters that something is about to be done. What cannot be recorded must not be done.
func (t *Trail) Begin(ctx context.Context, verb, object, reason string) (*drydockv1.Event, error) {
	event := t.newEvent(ctx, verb, object)
	event.Reason, event.Outcome = reason, Begun
	if err := t.enterEvent(ctx, event); err != nil {
		return nil, fmt.Errorf("%s of %s is not done, since it cannot be recorded: %w", verb, object, err)
	}
	return event, nil
}

// Finish enters what became of a begun event. An entry that is there is never changed: the outcome is one of its own.
func (t *Trail) Finish(ctx context.Context, event *drydockv1.Event, outcome, detail string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	ended := &drydockv1.Event{Id: event.GetId(), Outcome: outcome, Detail: detail, Ended: timestamppb.New(t.Now()), Controller: t.Controller}
	key := t.outcomesPrefix() + event.GetId()
	// Also a leader that has lost its term says what became of what it had begun.
	ctx = store.WithoutGuard(ctx)
	if _, err := t.Store.Txn().If(store.Unchanged(key, 0)).Put(key, ended).Commit(ctx); err != nil {
		t.Log.Error("outcome not recorded", "verb", event.GetVerb(), "object", event.GetObject(), "outcome", outcome, "detail", detail, "error", err)
	}
}

func (t *Trail) newEvent(ctx context.Context, verb, object string) *drydockv1.Event {
	now := t.Now()
	var unique [4]byte
	_, _ = rand.Read(unique[:]) // never fails
	return &drydockv1.Event{
		Id: eventID(now) + "-" + hex.EncodeToString(unique[:]), Time: timestamppb.New(now),
		Actor: t.Actor(ctx), Verb: verb, Object: object, Controller: t.Controller,
	}
}

// eventID is what the ids of a moment's events begin with; they sort as the moments do.
func eventID(at time.Time) string { return fmt.Sprintf("%020d", at.UnixNano()) }

func (t *Trail) enterEvent(ctx context.Context, event *drydockv1.Event) error {
	key := t.eventsPrefix() + event.GetId()
	_, err := t.Store.Txn().If(store.Unchanged(key, 0)).Put(key, event).Commit(ctx)
	return err
}

// Actor is who asks: whom a certificate names, a uid at the socket, or, where nobody asked, this controller.
func (t *Trail) Actor(ctx context.Context) string {
	if _, ok := pki.FromContext(ctx); !ok {
		return "controller " + t.Controller
	}
	return Requester(ctx)
}

// Requester is who asks, by the certificate or the socket that ctx came with; "unknown" where nobody did.
func Requester(ctx context.Context) string {
	id, ok := pki.FromContext(ctx)
	switch {
	case !ok:
		return "unknown"
	case id == pki.Admin():
		return id.Name
	}
	return id.String()
}

// OutcomeOf is what an error makes of an event; nil: Done.
func OutcomeOf(err error) (outcome, detail string) {
	if err == nil {
		return Done, ""
	}
	wire := refusal.OnWire(err)
	detail = wire.Error()
	var answer *connect.Error
	if errors.As(wire, &answer) {
		detail = answer.Message()
	}
	switch connect.CodeOf(wire) {
	case connect.CodeFailedPrecondition, connect.CodePermissionDenied, connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeAlreadyExists:
		return Refused, detail
	case connect.CodeCanceled:
		return Left, "whoever asked went away; what had begun goes on"
	}
	return Failed, detail
}
