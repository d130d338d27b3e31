package orchestrator

import (
	"fmt"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
)

func because(reason, remedy string) *drydockv1.Refusal { return refusal.Because(reason, remedy) }

// refuse is a refusal.Error, or nil where there is no reason.
func refuse(what string, reasons ...*drydockv1.Refusal) error { return refusal.New(what, reasons...) }

func notFound(kind, name, list string) error { return refusal.NotFound(kind, name, list) }

func noPod(name string) error  { return notFound("pod", name, "drydock pod ls") }
func noHost(name string) error { return notFound("host", name, "drydock host ls") }

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}
