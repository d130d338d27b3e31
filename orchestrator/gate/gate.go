// Package gate asks whether a rollout may go on: predicates over the status of a host and its pods, HTTP checks, Prometheus
// queries and an operator's word. A gate that cannot be asked is red: whatever is not clearly a yes - an error, a timeout, no
// data, a warning in the answer - is a no, with its reason.
package gate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

// Subject is what a gate is asked about.
type Subject struct {
	// Host is the one being patched; in gates at the start and at the end of a rollout each host of the pool is asked about.
	Host *drydockv1.Host
	// Pods are those on the host.
	Pods []*drydockv1.Pod
	// Approved tells who approved the manual gate of this name, and whether anyone has.
	Approved func(gate string) (by string, ok bool)
}

// Verdict is a gate's answer.
type Verdict struct {
	Gate  string
	Green bool
	// Waits is set where nothing is wrong but an operator has not spoken yet.
	Waits bool
	// Why is one sentence for an operator.
	Why string
}

// Spec is one gate as a pool describes it. Exactly one of CEL, HTTP, Prometheus and Manual is set.
type Spec struct {
	Name string
	CEL  string
	HTTP *HTTP
	// Prometheus is a query with bounds.
	Prometheus *Prometheus
	// Manual is what the operator who approves is told; set where the gate is one.
	Manual  string
	Timeout time.Duration
}

// Gate is ready to be asked.
type Gate struct {
	name    string
	timeout time.Duration
	ask     func(ctx context.Context, s Subject) (Verdict, error)
}

// New compiles a gate. The client is used for HTTP and Prometheus; its transport decides which certificates are trusted.
func New(spec Spec, transport http.RoundTripper) (*Gate, error) {
	g := &Gate{name: spec.Name, timeout: spec.Timeout}
	client := newClient(transport)
	switch {
	case spec.CEL != "":
		predicate, err := CompileCEL(spec.CEL)
		if err != nil {
			return nil, fmt.Errorf("gate %s: %w", spec.Name, err)
		}
		g.ask = predicate.ask
	case spec.HTTP != nil:
		g.ask = spec.HTTP.asker(client)
	case spec.Prometheus != nil:
		g.ask = spec.Prometheus.asker(client)
	case spec.Manual != "":
		g.ask = approval(spec.Name, spec.Manual)
	default:
		return nil, fmt.Errorf("gate %s asks nothing", spec.Name)
	}
	if g.timeout <= 0 {
		return nil, fmt.Errorf("gate %s has no timeout", spec.Name)
	}
	return g, nil
}

// Ask never takes longer than the gate's timeout, and never says green for want of an answer.
func (g *Gate) Ask(ctx context.Context, s Subject) Verdict {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	verdict, err := g.ask(ctx, s)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		verdict = Verdict{Why: fmt.Sprintf("no answer within %s: %v", g.timeout, err)}
	case err != nil:
		verdict = Verdict{Why: err.Error()}
	}
	verdict.Gate = g.name
	return verdict
}

// AskAll asks gates at the same time; the verdicts come in the gates' order.
func AskAll(ctx context.Context, gates []*Gate, s Subject) []Verdict {
	verdicts := make([]Verdict, len(gates))
	var all sync.WaitGroup
	for i, g := range gates {
		all.Go(func() { verdicts[i] = g.Ask(ctx, s) })
	}
	all.Wait()
	return verdicts
}

func approval(name, message string) func(context.Context, Subject) (Verdict, error) {
	return func(_ context.Context, s Subject) (Verdict, error) {
		if s.Approved != nil {
			if by, ok := s.Approved(name); ok {
				return Verdict{Green: true, Why: "approved by " + by}, nil
			}
		}
		return Verdict{Waits: true, Why: "waits for an operator: " + message}, nil
	}
}
