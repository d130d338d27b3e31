package proxy

import (
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"drydock/shim/message"
)

// begin starts the span of a call, below the one that the client's traceparent names. The server sees the client's still: the shim
// changes no header that no rule changes. Without a tracer there is no span.
func (r *ready) begin(c *call) trace.Span {
	if r.Tracer == nil {
		return nil
	}
	ctx := propagation.TraceContext{}.Extract(c.request.Context(), propagation.HeaderCarrier(c.request.Header))
	_, span := r.Tracer.Start(ctx, "shim "+r.Record.Service, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("service.name", r.Record.Service), attribute.String("http.request.method", c.request.Method),
		attribute.String("url.path", c.request.URL.Path),
	))
	return span
}

// finish ends a span when the answer's head has come, or when there is none.
func finish(span trace.Span, c *call, err error) {
	if span == nil {
		return
	}
	defer span.End()
	span.SetAttributes(attribute.String("drydock.shim.client", c.client))
	if c.chain != nil {
		span.SetAttributes(attribute.String("drydock.shim.server", c.chain.Server()), attribute.Int("drydock.shim.hops", len(c.chain.Steps())))
	}
	var refusal *message.Refusal
	switch {
	case errors.As(err, &refusal):
		span.SetAttributes(attribute.String("drydock.shim.refused", string(refusal.Why)))
		span.SetStatus(codes.Error, refusal.Error())
	case err != nil:
		span.SetStatus(codes.Error, err.Error())
	default:
		span.SetAttributes(attribute.Int("http.response.status_code", c.response.StatusCode))
		if c.response.StatusCode >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, c.response.Status)
		}
	}
}
