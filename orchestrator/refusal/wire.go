package refusal

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

// ErrNobodyLeads: whoever asks is asked to wait.
var ErrNobodyLeads = errors.New("no controller leads at the moment: try again in a few seconds")

// OnWire is err as a Connect error of one line: what the caller can act on is in its code and, for refusals, in its details. It is
// nil where err is.
func OnWire(err error) error {
	if err == nil {
		return nil
	}
	if strings.Contains(err.Error(), "\n") {
		err = oneLine{err}
	}
	var refused *Error
	if errors.As(err, &refused) {
		return withReasons(err, refused.Reasons)
	}
	var owned *owner.Refusal
	if errors.As(err, &owned) {
		return withReasons(err, []*drydockv1.Refusal{Because(owned.Obstacle, owned.Remedy)})
	}
	var remote *connect.Error
	if errors.As(err, &remote) {
		return relayed(err, remote)
	}
	return connect.NewError(codeOf(err), err)
}

// oneLine is an error that lists several, one after the other.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }
func (e oneLine) Unwrap() error { return e.error }

// codes are looked through in their order: an error may be several of these, and then it is the one that asks the caller to try again.
var codes = []struct {
	of   error
	code connect.Code
}{
	{ErrNobodyLeads, connect.CodeUnavailable},
	{owner.ErrDeposed, connect.CodeUnavailable},
	{store.ErrDeposed, connect.CodeUnavailable},
	{owner.ErrUnknown, connect.CodeUnavailable},
	{owner.ErrConflict, connect.CodeAborted},
	{store.ErrConflict, connect.CodeAborted},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
	{context.Canceled, connect.CodeCanceled},
	{owner.ErrNotFound, connect.CodeNotFound},
	{store.ErrNotFound, connect.CodeNotFound},
}

func codeOf(err error) connect.Code {
	for _, known := range codes {
		if errors.Is(err, known.of) {
			return known.code
		}
	}
	return connect.CodeInternal
}

func withReasons(err error, reasons []*drydockv1.Refusal) error {
	wire := connect.NewError(connect.CodeFailedPrecondition, err)
	for _, reason := range reasons {
		if detail, err := connect.NewErrorDetail(reason); err == nil {
			wire.AddDetail(detail)
		}
	}
	return wire
}

// relayed keeps the code and the details of an agent's error, and what was said about it here.
func relayed(err error, remote *connect.Error) error {
	text := err.Error()
	if err == error(remote) {
		text = remote.Message()
	}
	wire := connect.NewError(remote.Code(), errors.New(strings.Replace(text, remote.Error(), remote.Message(), 1)))
	for _, detail := range remote.Details() {
		wire.AddDetail(detail)
	}
	return wire
}

// Interceptor puts every handler's error through OnWire.
type Interceptor struct{}

// WrapUnary implements connect.Interceptor, as do the others.
func (Interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
		if err != nil {
			return nil, OnWire(err)
		}
		return response, nil
	}
}

// WrapStreamingClient leaves clients as they are.
func (Interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler is WrapUnary for streams.
func (Interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error { return OnWire(next(ctx, conn)) }
}
