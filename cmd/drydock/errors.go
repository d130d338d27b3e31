package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	v1 "drydock/api/drydock/v1"
)

// Exit statuses; docs/cli.md tells operators of them.
const (
	statusDone    = 0
	statusFailed  = 1
	statusMisuse  = 2
	statusRefused = 3
)

// failure is an error as the operator sees it: one line, what is in the way, what to do, and the exit status.
type failure struct {
	status   int
	message  string
	refusals []*v1.Refusal
	remedies []string
}

func (f *failure) Error() string { return f.message }

// exitStatus ends drydock with the status of a command that ran in a pod, and without a word.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// report prints err for the operator and returns the exit status.
func (a *app) report(ctx context.Context, err error) int {
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	f := a.explain(ctx, err)
	fmt.Fprintf(a.stderr, "drydock: %s\n", strings.ReplaceAll(f.message, "\n", "\n  "))
	for _, r := range f.refusals {
		fmt.Fprintf(a.stderr, "  - %s\n", r.Reason)
		if r.Remedy != "" {
			fmt.Fprintf(a.stderr, "    remedy: %s\n", r.Remedy)
		}
	}
	for _, r := range f.remedies {
		fmt.Fprintf(a.stderr, "  remedy: %s\n", r)
	}
	return f.status
}

// explain finds for every error what the operator can do about it.
func (a *app) explain(ctx context.Context, err error) *failure {
	var f *failure
	var answer *connect.Error
	switch {
	case errors.As(err, &f):
		return f
	case ctx.Err() != nil: // HTTP/2 also calls a connection that broke cancelled
		return &failure{status: statusFailed, message: "interrupted"}
	case errors.As(err, &answer) && connect.IsWireError(err):
		return explainAnswer(answer)
	case errors.As(err, &answer) && a.target != nil:
		return a.explainConnection(answer)
	}
	return &failure{status: statusFailed, message: err.Error()}
}

// explainAnswer is for what the controller answered.
func explainAnswer(answer *connect.Error) *failure {
	f := &failure{status: statusFailed, message: answer.Message(), refusals: refusalsOf(answer)}
	if f.message == "" {
		f.message = answer.Code().String()
	}
	switch answer.Code() {
	case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeOutOfRange:
		f.status = statusMisuse
	case connect.CodeFailedPrecondition, connect.CodeAlreadyExists:
		f.status = statusRefused
	case connect.CodeUnimplemented:
		f.message = "the controller does not know this command: " + f.message
		f.remedies = []string{"bring the controller and this program to the same version; see `drydock version`"}
	case connect.CodePermissionDenied:
		f.status = statusRefused
		if len(f.refusals) == 0 {
			f.remedies = []string{"use a context whose certificate may do this (--context, --cert and --key)"}
		}
	case connect.CodeUnauthenticated:
		f.remedies = []string{"use a context whose certificate may do this (--context, --cert and --key)"}
	case connect.CodeUnavailable:
		f.remedies = []string{"try again in a moment; `drydock status` shows what the controller reaches"}
	}
	f.sayOnce()
	return f
}

// sayOnce takes out of the message what the refusals say, and makes one line of a single one.
func (f *failure) sayOnce() {
	if len(f.refusals) == 0 {
		return
	}
	var reasons, remedied []string
	for _, r := range f.refusals {
		reasons, remedied = append(reasons, r.Reason), append(remedied, r.Reason+": "+r.Remedy)
	}
	before, found := strings.CutSuffix(f.message, strings.Join(remedied, "; "))
	if !found {
		before, found = strings.CutSuffix(f.message, strings.Join(reasons, "; "))
	}
	switch before = strings.TrimSuffix(strings.TrimSuffix(before, ": "), "refused"); {
	case !found:
	case len(reasons) > 1:
		f.message = before + "refused"
	default:
		f.message = before + reasons[0]
		if remedy := f.refusals[0].Remedy; remedy != "" {
			f.remedies = []string{remedy}
		}
		f.refusals = nil
	}
}

func refusalsOf(answer *connect.Error) []*v1.Refusal {
	var out []*v1.Refusal
	for _, d := range answer.Details() {
		if m, err := d.Value(); err == nil {
			if r, ok := m.(*v1.Refusal); ok {
				out = append(out, r)
			}
		}
	}
	return out
}

// explainConnection is for a controller that did not answer.
func (a *app) explainConnection(cause *connect.Error) *failure {
	var untrusted errUntrusted
	alert := a.target.alert()
	f := &failure{status: statusFailed}
	switch {
	case errors.As(cause, &untrusted):
		f.message = fmt.Sprintf("%s is not to be trusted: %s", a.target, untrusted.reason)
		f.remedies = []string{"name the controller's own CA with --ca, or use another context"}
	case alert != "":
		f.message = fmt.Sprintf("%s does not accept our certificate: %s", a.target, alert)
		f.remedies = []string{"name a client certificate from the controller's CA with --cert and --key, or use another context"}
	default:
		f.message = fmt.Sprintf("no controller answers at %s: %s", a.target, rootCause(cause))
		f.remedies = []string{"start it (`drydock lab up`, or the drydock-controller unit on its machine)",
			"or name another one with --context or --server"}
	}
	return f
}

// rootCause is the innermost of the wrapped errors: the outer ones repeat addresses that the operator did not type.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

func errNoAnswer(after time.Duration) error {
	return &failure{
		status:   statusFailed,
		message:  "no answer from the controller within " + duration(after),
		remedies: []string{"wait longer with --timeout, or see `drydock status`"},
	}
}
