package agent

import (
	"context"
	"fmt"
	"sync"
)

// holds lets one at a time act for each name.
type holds struct {
	mu   sync.Mutex
	busy map[string]chan struct{}
}

func (h *holds) hold(ctx context.Context, name string) (release func(), err error) {
	h.mu.Lock()
	if h.busy == nil {
		h.busy = make(map[string]chan struct{})
	}
	busy, found := h.busy[name]
	if !found {
		busy = make(chan struct{}, 1)
		h.busy[name] = busy
	}
	h.mu.Unlock()
	select {
	case busy <- struct{}{}:
		return func() { <-busy }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s is busy: %w", name, ctx.Err())
	}
}
