package audit

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/pki"
	"drydock/orchestrator/refusal"
)

// ReasonHeader is why an operator asks for a change: text, escaped as in a URL's query.
const ReasonHeader = "Drydock-Reason"

// interceptor records every call that changes something: before it is done, and what became of it.
type interceptor struct {
	t      *Trail
	policy pki.Policy
}

// Interceptor records calls. What is recorded how is in pki.ControllerPolicy.
func (t *Trail) Interceptor() connect.Interceptor {
	return interceptor{t: t, policy: pki.ControllerPolicy()}
}

// WrapUnary implements connect.Interceptor.
func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		entry := i.entry(request.Spec().Procedure, request.Header())
		message, _ := request.Any().(proto.Message)
		if err := entry.begin(ctx, message); err != nil {
			return nil, refusal.OnWire(err)
		}
		response, err := next(ctx, request)
		entry.end(ctx, err)
		return response, err
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (i interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor. What is asked for is known with the first message.
func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		entry := i.entry(conn.Spec().Procedure, conn.RequestHeader())
		err := next(ctx, &auditedConn{StreamingHandlerConn: conn, ctx: ctx, entry: entry})
		entry.end(ctx, err)
		return err
	}
}

// auditedConn tells an entry what goes through it.
type auditedConn struct {
	connect.StreamingHandlerConn
	ctx   context.Context
	entry *entry
}

// Receive implements connect.StreamingHandlerConn.
func (s *auditedConn) Receive(message any) error {
	if err := s.StreamingHandlerConn.Receive(message); err != nil {
		return err
	}
	m, _ := message.(proto.Message)
	return s.entry.begin(s.ctx, m)
}

// Send implements connect.StreamingHandlerConn.
func (s *auditedConn) Send(message any) error {
	s.entry.note(message)
	return s.StreamingHandlerConn.Send(message)
}

// entry is what is recorded of one call.
type entry struct {
	t      *Trail
	rule   pki.Rule
	reason string

	mu    sync.Mutex
	asked bool
	event *drydockv1.Event
	// outcome and detail are what an answer said that is no error.
	outcome, detail string
}

func (i interceptor) entry(procedure string, header http.Header) *entry {
	reason := header.Get(ReasonHeader)
	if plain, err := url.QueryUnescape(reason); err == nil {
		reason = plain
	}
	return &entry{t: i.t, rule: i.policy.Rule(procedure), reason: reason}
}

// begin records the call, at its first message; a call that changes nothing is not recorded.
func (e *entry) begin(ctx context.Context, request proto.Message) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked {
		return nil
	}
	e.asked = true
	if e.rule.Verb == "" || isDryRun(request) {
		return nil
	}
	e.event, err = e.t.Begin(ctx, e.rule.Verb, strings.TrimSpace(e.rule.Object+" "+nameIn(request)), e.reason)
	return err
}

// note takes in what a stream tells of the outcome.
func (e *entry) note(message any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch m := message.(type) {
	case *drydockv1.MigratePodResponse:
		if report := m.GetReport(); report != nil {
			e.outcome, e.detail = OutcomeOfMove(report)
		}
	case *drydockv1.DrainHostResponse:
		if summary := m.GetSummary(); summary != nil {
			e.outcome, e.detail = outcomeOfDrain(summary)
		}
	}
}

func (e *entry) end(ctx context.Context, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.event == nil {
		return
	}
	outcome, detail := e.outcome, e.detail
	if err != nil || outcome == "" {
		outcome, detail = OutcomeOf(err)
	}
	e.t.Finish(ctx, e.event, outcome, detail)
}

// OutcomeOfMove is what a migration's report makes of an event.
func OutcomeOfMove(report *drydockv1.MigrationReport) (outcome, detail string) {
	detail = fmt.Sprintf("migration %s from %s to %s", report.GetId(), report.GetFrom(), report.GetTo())
	if report.GetOutcome() == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED {
		return Done, detail
	}
	if report.GetError() != "" {
		detail += ": " + report.GetError()
	}
	if report.GetOutcome() == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED {
		return Refused, detail
	}
	return Failed, detail
}

func outcomeOfDrain(summary *drydockv1.DrainSummary) (outcome, detail string) {
	detail = fmt.Sprintf("%d pods moved, %d left", summary.GetMoved(), summary.GetRemaining())
	for _, reason := range summary.GetRefusals() {
		detail += "; " + reason.GetReason()
	}
	switch {
	case len(summary.GetRefusals()) > 0:
		return Refused, detail
	case summary.GetRemaining() > 0:
		return Failed, detail
	}
	return Done, detail
}

// RecordRefused enters that an operator asked for a change without the right to.
func (t *Trail) RecordRefused(ctx context.Context, caller pki.Identity, procedure string, err error) {
	rule := pki.ControllerPolicy().Rule(procedure)
	if rule.Verb != "" {
		t.Record(pki.WithIdentity(ctx, caller), rule.Verb, rule.Object, "", err)
	}
}

func isDryRun(request proto.Message) bool {
	if request == nil {
		return false
	}
	m := request.ProtoReflect()
	field := m.Descriptor().Fields().ByName("dry_run")
	return field != nil && m.Get(field).Bool()
}

// nameIn is the name of what a request is about: in the first of these fields that it has, or in its part that has one.
func nameIn(request proto.Message) string {
	if request == nil {
		return ""
	}
	return nameOf(request.ProtoReflect())
}

func nameOf(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	for _, name := range []protoreflect.Name{"name", "pod", "pool", "rollout", "service", "id", "reference", "spec", "start", "header", "host"} {
		field := fields.ByName(name)
		switch {
		case field == nil || field.IsList():
		case field.Kind() == protoreflect.StringKind:
			return m.Get(field).String()
		case field.Kind() == protoreflect.MessageKind && m.Has(field):
			return nameOf(m.Get(field).Message())
		}
	}
	return ""
}
