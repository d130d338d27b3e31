package orchestrator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
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
	eventBegun   = "begun"
	eventDone    = "done"
	eventFailed  = "failed"
	eventRefused = "refused"
	// eventLeft: whoever asked went away before the end, and what was begun goes on.
	eventLeft = "left"
)

// recordWithin is how long an outcome may take to be recorded.
const recordWithin = 5 * time.Second

// record enters what the controller has done by itself, or an agent has asked of it: err is what became of it, nil where it was
// done. Where that cannot be kept the log says so.
func (c *Controller) record(ctx context.Context, verb, object, reason string, err error) {
	event := c.newEvent(ctx, verb, object)
	event.Reason = reason
	event.Outcome, event.Detail = outcomeOf(err)
	event.Ended = event.Time
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if err := c.enterEvent(ctx, event); err != nil {
		c.log.Error("not recorded", "verb", verb, "object", object, "reason", reason, "outcome", event.GetOutcome(), "error", err)
	}
}

// begin enters that something is about to be done. What cannot be recorded must not be done.
func (c *Controller) begin(ctx context.Context, verb, object, reason string) (*drydockv1.Event, error) {
	event := c.newEvent(ctx, verb, object)
	event.Reason, event.Outcome = reason, eventBegun
	if err := c.enterEvent(ctx, event); err != nil {
		return nil, fmt.Errorf("%s of %s is not done, since it cannot be recorded: %w", verb, object, err)
	}
	return event, nil
}

// finish enters what became of a begun event. An entry that is there is never changed: the outcome is one of its own.
func (c *Controller) finish(ctx context.Context, event *drydockv1.Event, outcome, detail string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	ended := &drydockv1.Event{Id: event.GetId(), Outcome: outcome, Detail: detail, Ended: timestamppb.New(c.now()), Controller: c.config.Name}
	key := keyOutcomes + event.GetId()
	// Also a leader that has lost its term says what became of what it had begun.
	ctx = store.WithoutGuard(ctx)
	if _, err := c.store.Txn().If(store.Unchanged(key, 0)).Put(key, ended).Commit(ctx); err != nil {
		c.log.Error("outcome not recorded", "verb", event.GetVerb(), "object", event.GetObject(), "outcome", outcome, "detail", detail, "error", err)
	}
}

func (c *Controller) newEvent(ctx context.Context, verb, object string) *drydockv1.Event {
	now := c.now()
	var unique [4]byte
	_, _ = rand.Read(unique[:]) // never fails
	return &drydockv1.Event{
		Id: eventID(now) + "-" + hex.EncodeToString(unique[:]), Time: timestamppb.New(now),
		Actor: c.actor(ctx), Verb: verb, Object: object, Controller: c.config.Name,
	}
}

// eventID is what the ids of a moment's events begin with; they sort as the moments do.
func eventID(at time.Time) string { return fmt.Sprintf("%020d", at.UnixNano()) }

func (c *Controller) enterEvent(ctx context.Context, event *drydockv1.Event) error {
	key := keyEvents + event.GetId()
	_, err := c.store.Txn().If(store.Unchanged(key, 0)).Put(key, event).Commit(ctx)
	return err
}

// actor is who asks: whom a certificate names, a uid at the socket, or, where nobody asked, this controller.
func (c *Controller) actor(ctx context.Context) string {
	if _, ok := pki.FromContext(ctx); !ok {
		return "controller " + c.config.Name
	}
	return requester(ctx)
}

// requester is who asks, for the record.
func requester(ctx context.Context) string {
	id, ok := pki.FromContext(ctx)
	switch {
	case !ok:
		return "unknown"
	case id == pki.Admin():
		return id.Name
	}
	return id.String()
}

// outcomeOf is what an error makes of an event.
func outcomeOf(err error) (outcome, detail string) {
	if err == nil {
		return eventDone, ""
	}
	wire := refusal.OnWire(err)
	detail = wire.Error()
	var answer *connect.Error
	if errors.As(wire, &answer) {
		detail = answer.Message()
	}
	switch connect.CodeOf(wire) {
	case connect.CodeFailedPrecondition, connect.CodePermissionDenied, connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeAlreadyExists:
		return eventRefused, detail
	case connect.CodeCanceled:
		return eventLeft, "whoever asked went away; what had begun goes on"
	}
	return eventFailed, detail
}
