// Package refusal says why something was not begun, each reason with what would remove it. It carries reasons over the wire: what a
// caller can act on is in an error's code and, for refusals, in its details, and comes out again as it went in.
package refusal

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

// Error says that something was not begun, and why: each reason has what would remove it.
type Error struct {
	// What was asked for, for example "move pod web to h2".
	What    string
	Reasons []*drydockv1.Refusal
}

func (e *Error) Error() string {
	parts := make([]string, 0, len(e.Reasons))
	for _, reason := range e.Reasons {
		parts = append(parts, reason.GetReason()+": "+reason.GetRemedy())
	}
	return fmt.Sprintf("%s: refused: %s", e.What, strings.Join(parts, "; "))
}

// Because is one reason, with its remedy.
func Because(reason, remedy string) *drydockv1.Refusal {
	return &drydockv1.Refusal{Reason: reason, Remedy: remedy}
}

// New is an Error, or nil where there is no reason.
func New(what string, reasons ...*drydockv1.Refusal) error {
	if len(reasons) == 0 {
		return nil
	}
	return &Error{What: what, Reasons: reasons}
}

// NotFound says that there is nothing of a kind by a name; list is the command that shows what there is.
func NotFound(kind, name, list string) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no %s %q: see `%s`", kind, name, list))
}

// Of are the reasons that an error carries: an Error, or an answer from elsewhere.
func Of(err error) []*drydockv1.Refusal {
	var refused *Error
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

// Try is the remedy where nothing better is known.
const Try = "try again"

// Why is the reasons in an error, or the error as one whose remedy is Try.
func Why(err error) []*drydockv1.Refusal {
	if reasons := Of(err); len(reasons) > 0 {
		return reasons
	}
	var wire *connect.Error
	if errors.As(OnWire(err), &wire) {
		return []*drydockv1.Refusal{Because(wire.Message(), Try)}
	}
	return []*drydockv1.Refusal{Because(err.Error(), Try)}
}

// OfMigration is why a migration has not brought its pod to the other host.
func OfMigration(report *drydockv1.MigrationReport) []*drydockv1.Refusal {
	if len(report.GetRefusals()) > 0 {
		return report.GetRefusals()
	}
	return []*drydockv1.Refusal{Because(fmt.Sprintf("migration %s to %s failed: %s", report.GetId(), report.GetTo(), report.GetError()),
		"see `drydock migration show "+report.GetId()+"`")}
}
