package module

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"drydock/shim/chain"
)

// Side is one end of a connection.
type Side uint32

// The client's side, and the server's.
const (
	ClientSide Side = iota
	ServerSide
)

// Called is a call that a module has seen.
type Called struct {
	Outcome chain.Outcome
	// Why is the reason of a refusal.
	Why string
}

// Output is what came of one piece of data. It belongs to the caller.
type Output struct {
	ToClient, ToServer []byte
	Calls              []Called
}

// Instance is a module at work for one connection. Its methods must not be used at the same time.
type Instance struct {
	module  *Module
	running api.Module
	out     Output
	failure error
	closed  bool
}

type instanceKey struct{}

// maxWhy bounds the reasons that a module gives, and maxCalls how many calls one piece of data may hold.
const (
	maxWhy   = 1 << 10
	maxCalls = 100_000
)

// Data gives the module what came from a side. After an error the instance is of no more use.
func (i *Instance) Data(ctx context.Context, from Side, data []byte) (Output, error) {
	i.out = Output{}
	if i.closed {
		return Output{}, fmt.Errorf("module %s: the instance has ended", i.module.name)
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, instanceKey{}, i), i.module.limits.Time)
	defer cancel()
	if err := i.data(ctx, from, data); err != nil {
		return Output{}, errors.Join(fmt.Errorf("module %s: %w", i.module.name, reason(ctx, err)), i.Close())
	}
	return i.out, nil
}

func (i *Instance) data(ctx context.Context, from Side, data []byte) error {
	at, err := i.running.ExportedFunction("drydock_buffer").Call(ctx, uint64(len(data)))
	if err != nil {
		return err
	}
	if !i.running.Memory().Write(uint32(at[0]), data) {
		return fmt.Errorf("its buffer of %d bytes is not in its memory", len(data))
	}
	_, err = i.running.ExportedFunction("drydock_data").Call(ctx, uint64(from), uint64(len(data)))
	return errors.Join(i.failure, err)
}

// reason says which bound was broken, without the module's stack.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("it took too long: %w", ctx.Err())
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(line)
}

// Close ends the instance. It may be called twice.
func (i *Instance) Close() error {
	if i.closed {
		return nil
	}
	i.closed = true
	var err error
	if i.running != nil {
		err = i.running.Close(context.Background())
	}
	return errors.Join(err, i.module.leave())
}

// emit is the module's way to send. A module that breaks a bound is stopped.
func emit(ctx context.Context, running api.Module, to, address, size uint32) {
	i := ctx.Value(instanceKey{}).(*Instance)
	data, ok := running.Memory().Read(address, size)
	switch total := int64(len(i.out.ToClient)) + int64(len(i.out.ToServer)) + int64(size); {
	case !ok:
		i.fail(ctx, running, "what it puts out is not in its memory")
	case total > i.module.limits.Output:
		i.fail(ctx, running, fmt.Sprintf("it puts out more than %d bytes for one piece of data", i.module.limits.Output))
	case Side(to) == ClientSide:
		i.out.ToClient = append(i.out.ToClient, data...)
	case Side(to) == ServerSide:
		i.out.ToServer = append(i.out.ToServer, data...)
	default:
		i.fail(ctx, running, fmt.Sprintf("there is no side %d", to))
	}
}

// called is the module's way to tell what became of a call.
func called(ctx context.Context, running api.Module, outcome, address, size uint32) {
	i := ctx.Value(instanceKey{}).(*Instance)
	why, ok := running.Memory().Read(address, min(size, maxWhy))
	if !ok || chain.Outcome(outcome) > chain.Untranslatable || len(i.out.Calls) >= maxCalls {
		i.fail(ctx, running, "it tells of a call that there cannot be")
		return
	}
	i.out.Calls = append(i.out.Calls, Called{chain.Outcome(outcome), string(why)})
}

// fail ends the module at its next instruction.
func (i *Instance) fail(ctx context.Context, running api.Module, why string) {
	i.failure = errors.New(why)
	_ = running.CloseWithExitCode(ctx, 1) // Data closes it again
}
