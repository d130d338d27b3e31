package process

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/trace"
)

// flushTime bounds how long spans that were not sent are waited for at the end.
const flushTime = 2 * time.Second

// newTraces sends spans to a collector by OTLP over gRPC, without TLS: it is one on this machine, or in this pod. One that cannot
// be reached costs spans, and delays no call.
func newTraces(ctx context.Context, address string) (*trace.TracerProvider, error) {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(address), otlptracegrpc.WithInsecure())
	if err != nil {
		return nil, fmt.Errorf("shim: traces: %w", err)
	}
	return trace.NewTracerProvider(trace.WithBatcher(exporter)), nil
}
