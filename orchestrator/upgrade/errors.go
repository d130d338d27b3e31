package upgrade

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
)

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

// ErrShimChanged: somebody else has changed a pod's shim since it was looked at.
var ErrShimChanged = errors.New("its shim was changed at the same moment: look at it again")

// setback is why a step failed, with what to do. Every other error says nothing about the step: it is tried again.
type setback struct{ why *drydockv1.Refusal }

func (s *setback) Error() string { return s.why.GetReason() }

func failed(reason, remedy string) error { return &setback{refusal.Because(reason, remedy)} }

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
