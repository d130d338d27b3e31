package message

import (
	"fmt"
	"net/http"
)

// Why a call is refused.
type Why string

// The record forbids the call; or no rule fits it, or a message of it does not fit the rule; or a body or message is larger
// than is translated.
const (
	Disallowed     Why = "disallowed"
	Untranslatable Why = "untranslatable"
	TooLarge       Why = "too-large"
)

// Refusal is a call that is not made, or an answer that is not given, because it means nothing in the other version.
type Refusal struct {
	Why Why
	// Service, From and To say between which neighbours; From is the version of the side that the call came from.
	Service, From, To string
	// Answered says that the server has carried the call out: only its answer could not be translated.
	Answered bool
	Detail   string
}

func (r *Refusal) Error() string {
	what := "call"
	if r.Answered {
		what = "answer (the call was carried out)"
	}
	return fmt.Sprintf("%s: %s %s between %s and %s: %s", r.Service, what, r.Why, r.From, r.To, r.Detail)
}

// Untranslatablef is a Refusal whose place is filled in by whoever knows it.
func Untranslatablef(format string, args ...any) *Refusal {
	return &Refusal{Why: Untranslatable, Detail: fmt.Sprintf(format, args...)}
}

// Status is what HTTP calls it: 501 where the version cannot do it, 413 and 422 where the request's content is at fault, and
// 502 where the server's answer is.
func (r *Refusal) Status() int {
	switch {
	case r.Answered:
		return http.StatusBadGateway
	case r.Why == Disallowed:
		return http.StatusNotImplemented
	case r.Why == TooLarge:
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusUnprocessableEntity
	}
}

// Problem is the refusal as application/problem+json (RFC 9457).
func (r *Refusal) Problem() []byte {
	n, _ := NewNumber(fmt.Sprint(r.Status()))
	return NewObject(
		Member{"type", NewString("urn:drydock:shim:" + string(r.Why))},
		Member{"title", NewString("The call cannot be translated between versions of the service")},
		Member{"status", n},
		Member{"detail", NewString(r.Detail)},
		Member{"service", NewString(r.Service)},
		Member{"from", NewString(r.From)},
		Member{"to", NewString(r.To)},
		Member{"answered", NewBool(r.Answered)},
	).AppendJSON(nil)
}

// GRPC is the refusal as a gRPC status: the code (https://grpc.io/docs/guides/status-codes) and the message.
func (r *Refusal) GRPC() (code uint32, text string) {
	const invalidArgument, resourceExhausted, unimplemented, internal = 3, 8, 12, 13
	switch {
	case r.Answered:
		code = internal
	case r.Why == Disallowed:
		code = unimplemented
	case r.Why == TooLarge:
		code = resourceExhausted
	default:
		code = invalidArgument
	}
	return code, r.Error()
}
