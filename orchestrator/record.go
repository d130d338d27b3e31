package orchestrator

import (
	"context"
	"time"

	"drydock/orchestrator/audit"
)

// newTrail makes the record of what is changed.
func (c *Controller) newTrail() *audit.Trail {
	return audit.New(audit.Config{
		Store: c.store, Log: c.log, Now: func() time.Time { return c.now() }, Prefix: keyRoot, Controller: c.config.Name,
	})
}

// record enters what the controller has done by itself, or an agent has asked of it.
func (c *Controller) record(ctx context.Context, verb, object, reason string, err error) {
	c.trail.Record(ctx, verb, object, reason, err)
}

func requester(ctx context.Context) string { return audit.Requester(ctx) }
