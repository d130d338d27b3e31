package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

// RefusedError says that something was not begun, and why: each reason has what would remove it.
type RefusedError struct {
	// What was asked for, for example "move pod web to h2".
	What    string
	Reasons []*drydockv1.Refusal
}

func (e *RefusedError) Error() string {
	parts := make([]string, 0, len(e.Reasons))
	for _, reason := range e.Reasons {
		parts = append(parts, reason.GetReason()+": "+reason.GetRemedy())
	}
	return fmt.Sprintf("%s: refused: %s", e.What, strings.Join(parts, "; "))
}

func because(reason, remedy string) *drydockv1.Refusal {
	return &drydockv1.Refusal{Reason: reason, Remedy: remedy}
}

// refuse is a RefusedError, or nil where there is no reason.
func refuse(what string, reasons ...*drydockv1.Refusal) error {
	if len(reasons) == 0 {
		return nil
	}
	return &RefusedError{What: what, Reasons: reasons}
}

func notFound(kind, name, list string) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no %s %q: see `%s`", kind, name, list))
}

func noPod(name string) error  { return notFound("pod", name, "drydock pod ls") }
func noHost(name string) error { return notFound("host", name, "drydock host ls") }

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

// onWire is err as a Connect error of one line: what the caller can act on is in its code and, for refusals, in its details.
func onWire(err error) error {
	if err == nil {
		return nil
	}
	if strings.Contains(err.Error(), "\n") {
		err = oneLine{err}
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		return withRefusals(err, refused.Reasons)
	}
	var owned *owner.Refusal
	if errors.As(err, &owned) {
		return withRefusals(err, []*drydockv1.Refusal{because(owned.Obstacle, owned.Remedy)})
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

func codeOf(err error) connect.Code {
	for target, code := range map[error]connect.Code{
		context.Canceled:         connect.CodeCanceled,
		context.DeadlineExceeded: connect.CodeDeadlineExceeded,
		owner.ErrNotFound:        connect.CodeNotFound,
		store.ErrNotFound:        connect.CodeNotFound,
		owner.ErrUnknown:         connect.CodeUnavailable,
		owner.ErrDeposed:         connect.CodeUnavailable,
		store.ErrDeposed:         connect.CodeUnavailable,
		errNobodyLeads:           connect.CodeUnavailable,
		owner.ErrConflict:        connect.CodeAborted,
		store.ErrConflict:        connect.CodeAborted,
	} {
		if errors.Is(err, target) {
			return code
		}
	}
	return connect.CodeInternal
}

func withRefusals(err error, reasons []*drydockv1.Refusal) error {
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

// refusalsOf are the reasons that an agent's error carries.
func refusalsOf(err error) []*drydockv1.Refusal {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Reasons
	}
	var remote *connect.Error
	if !errors.As(err, &remote) {
		return nil
	}
	var reasons []*drydockv1.Refusal
	for _, detail := range remote.Details() {
		value, err := detail.Value()
		if err != nil {
			continue
		}
		if reason, ok := value.(*drydockv1.Refusal); ok {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// errorInterceptor puts every handler's error through onWire.
type errorInterceptor struct{}

func (errorInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
		if err != nil {
			return nil, onWire(err)
		}
		return response, nil
	}
}

func (errorInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (errorInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error { return onWire(next(ctx, conn)) }
}
