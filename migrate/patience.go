package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/migrate/owner"
)

// A controller that is being restarted is away for a few seconds. Before the freeze nothing is lost by waiting for it, so a
// migration does not end because of that.
const (
	storePatience = 20 * time.Second
	storeAgain    = 200 * time.Millisecond
)

// whileUnknown calls ask until it is answered, for as long as the store may be away before a pod is frozen. ask has to bear
// being called again.
func whileUnknown(ctx context.Context, ask func(context.Context) error) error {
	for deadline := time.Now().Add(storePatience); ; {
		err := ask(ctx)
		if err == nil || !errors.Is(err, owner.ErrUnknown) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(storeAgain):
		}
	}
}

// look reads the owner of a pod that is not frozen.
func (e *Engine) look(ctx context.Context, pod string) (view owner.View, err error) {
	err = whileUnknown(ctx, func(ctx context.Context) error {
		if view = e.Store.Look(ctx, pod); !view.Known {
			return fmt.Errorf("no controller has answered for %s: %w", storePatience, owner.ErrUnknown)
		}
		return nil
	})
	return view, err
}

// beginMove makes the pod moving in the store. It proves at the same time that the store can be reached, right before the
// freeze, when the decision will need it.
func (e *Engine) beginMove(ctx context.Context, move owner.Move) (record owner.Record, err error) {
	err = whileUnknown(ctx, func(ctx context.Context) error {
		record, err = e.Store.Begin(ctx, move)
		return err
	})
	return record, err
}
