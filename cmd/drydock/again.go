package main

import (
	"context"
	"time"

	"connectrpc.com/connect"
)

const (
	// takeoverPatience is how long a command that watches looks for a controller that can tell it more, when its own went away.
	takeoverPatience = time.Minute
	// takeoverAgain is how often it looks.
	takeoverAgain = time.Second
)

// outage is since when a command that watches has heard nothing; zero while it hears.
type outage struct{ since time.Time }

// again waits a moment, and says whether to ask once more: where a controller went away in the middle of a call, another one, or the
// same one started again, knows what has become of what it was asked for.
func (a *app) again(ctx context.Context, o *outage, err error) bool {
	if !wentAway(ctx, err) || a.patience == 0 {
		return false
	}
	if o.since.IsZero() {
		o.since = time.Now()
	}
	if time.Since(o.since) > a.patience {
		return false
	}
	select {
	case <-ctx.Done():
	case <-time.After(takeoverAgain):
	}
	return ctx.Err() == nil
}

// wentAway tells a call that broke off with its controller from one that was answered, or interrupted.
func wentAway(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && (!connect.IsWireError(err) || connect.CodeOf(err) == connect.CodeUnavailable)
}
