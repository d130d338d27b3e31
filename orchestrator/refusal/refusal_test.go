package refusal

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

func TestReasonsComeOutOfTheWireAsTheyWentIn(t *testing.T) {
	reasons := []*drydockv1.Refusal{Because("host h2 is cordoned", "run `drydock host resume h2`"), Because("it is moving", "wait")}
	refused := New("move pod web to h2", reasons...)
	for name, err := range map[string]error{
		"as it is": refused, "wrapped": fmt.Errorf("host h1: %w", refused), "on the wire": OnWire(refused), "passed on": OnWire(fmt.Errorf("host h1: %w", OnWire(refused))),
	} {
		if diff := cmp.Diff(reasons, Of(err), protocmp.Transform()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		if code := connect.CodeOf(OnWire(err)); code != connect.CodeFailedPrecondition {
			t.Errorf("%s: code %s", name, code)
		}
	}
	if err := New("move pod web to h2"); err != nil {
		t.Errorf("without a reason: %v", err)
	}
}

func TestAnErrorOnTheWireIsOneLineWithTheCodeOfItsCause(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code connect.Code
		text string
	}{
		"several":          {errors.Join(errors.New("a"), store.ErrConflict), connect.CodeAborted, "a; " + store.ErrConflict.Error()},
		"nobody leads":     {fmt.Errorf("ask: %w", ErrNobodyLeads), connect.CodeUnavailable, "ask: " + ErrNobodyLeads.Error()},
		"the term is over": {owner.ErrDeposed, connect.CodeUnavailable, owner.ErrDeposed.Error()},
		"it is not there":  {NotFound("pod", "web", "drydock pod ls"), connect.CodeNotFound, "there is no pod \"web\": see `drydock pod ls`"},
		"it took too long": {context.DeadlineExceeded, connect.CodeDeadlineExceeded, context.DeadlineExceeded.Error()},
		"another host's":   {fmt.Errorf("host h1: %w", connect.NewError(connect.CodeNotFound, errors.New("no such pod"))), connect.CodeNotFound, "host h1: no such pod"},
		"anything else":    {errors.New("broken"), connect.CodeInternal, "broken"},
	} {
		var wire *connect.Error
		if !errors.As(OnWire(test.err), &wire) || wire.Code() != test.code || wire.Message() != test.text {
			t.Errorf("%s: got %v", name, wire)
		}
	}
	if OnWire(nil) != nil {
		t.Error("an error where there was none")
	}
}

func TestAnErrorOfSeveralKindsAsksToTryAgain(t *testing.T) {
	for range 20 {
		if code := connect.CodeOf(OnWire(errors.Join(store.ErrNotFound, context.Canceled, store.ErrConflict))); code != connect.CodeAborted {
			t.Fatal(code)
		}
		if code := connect.CodeOf(OnWire(errors.Join(store.ErrConflict, store.ErrDeposed))); code != connect.CodeUnavailable {
			t.Fatal(code)
		}
	}
}

func TestAnErrorWithoutReasonsIsOneItself(t *testing.T) {
	want := []*drydockv1.Refusal{Because("host h1: it is off", Try)}
	got := Why(fmt.Errorf("host h1: %w", connect.NewError(connect.CodeUnavailable, errors.New("it is off"))))
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
