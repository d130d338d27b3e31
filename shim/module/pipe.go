package module

import (
	"context"
	"errors"
	"fmt"

	"drydock/shim/chain"
)

// Step is one translator of a chain of modules. A nil Module passes everything.
type Step struct {
	From, To string
	Module   *Module
	Down     bool
}

// Pipe is the instances of one connection, one behind the other from the client to the server. Its methods must not be used at
// the same time.
type Pipe struct {
	steps     []Step
	instances []*Instance
}

// FaultError is a module that broke, and between which versions.
type FaultError struct {
	From, To string
	Err      error
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("the translator between %s and %s failed: %v", e.From, e.To, e.Err)
}

// Unwrap is the fault.
func (e *FaultError) Unwrap() error { return e.Err }

// Open starts the instances of one connection.
func Open(ctx context.Context, steps []Step) (*Pipe, error) {
	p := &Pipe{}
	for _, s := range steps {
		if s.Module == nil {
			continue
		}
		i, err := s.Module.Open(ctx, s.Down)
		if err != nil {
			return nil, errors.Join(&FaultError{s.From, s.To, err}, p.Close())
		}
		p.steps, p.instances = append(p.steps, s), append(p.instances, i)
	}
	return p, nil
}

// Data takes what came from a side through the pipe. Calls that pass or are translated are counted by the first translator only,
// refusals by any. The error is a *FaultError.
func (p *Pipe) Data(ctx context.Context, from Side, data []byte) (Output, error) {
	var out Output
	first := 0
	if from == ServerSide {
		first = len(p.instances) - 1
	}
	err := p.deliver(ctx, first, from, data, &out)
	return out, err
}

// deliver gives data to one instance and what comes of it to those beside it. Beyond the ends are client and server.
func (p *Pipe) deliver(ctx context.Context, at int, from Side, data []byte, out *Output) error {
	switch {
	case len(data) == 0:
		return nil
	case at < 0:
		out.ToClient = append(out.ToClient, data...)
		return nil
	case at == len(p.instances):
		out.ToServer = append(out.ToServer, data...)
		return nil
	}
	made, err := p.instances[at].Data(ctx, from, data)
	if err != nil {
		return &FaultError{p.steps[at].From, p.steps[at].To, err}
	}
	for _, c := range made.Calls {
		if at == 0 || c.Outcome == chain.Disallowed || c.Outcome == chain.Untranslatable {
			out.Calls = append(out.Calls, c)
		}
	}
	if err := p.deliver(ctx, at+1, ClientSide, made.ToServer, out); err != nil {
		return err
	}
	return p.deliver(ctx, at-1, ServerSide, made.ToClient, out)
}

// Close ends all instances.
func (p *Pipe) Close() error {
	var errs []error
	for _, i := range p.instances {
		errs = append(errs, i.Close())
	}
	return errors.Join(errs...)
}
