package upgrade

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

func because(reason, remedy string) *drydockv1.Refusal {
	return &drydockv1.Refusal{Reason: reason, Remedy: remedy}
}

// refuse says that something was not begun, and why; it is nil where there is no reason.
func refuse(what string, reasons ...*drydockv1.Refusal) error {
	if len(reasons) == 0 {
		return nil
	}
	parts := make([]string, 0, len(reasons))
	for _, reason := range reasons {
		parts = append(parts, reason.GetReason()+": "+reason.GetRemedy())
	}
	refused := connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s: refused: %s", what, strings.Join(parts, "; ")))
	for _, reason := range reasons {
		if detail, err := connect.NewErrorDetail(reason); err == nil {
			refused.AddDetail(detail)
		}
	}
	return refused
}

func notFound(kind, name, list string) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no %s %q: see `%s`", kind, name, list))
}

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

// setback is why a step failed, with what to do. Every other error says nothing about the step: it is tried again.
type setback struct{ why *drydockv1.Refusal }

func (s *setback) Error() string { return s.why.GetReason() }

func failed(reason, remedy string) error { return &setback{because(reason, remedy)} }

// failure makes a setback of what an agent has answered, unless it did not answer at all.
func failure(what, remedy string, err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeAborted:
		return fmt.Errorf("%s: %w", what, err)
	}
	text := err.Error()
	var answer *connect.Error
	if errors.As(err, &answer) {
		text = answer.Message()
	}
	return failed(what+": "+text, remedy)
}
