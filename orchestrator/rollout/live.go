package rollout

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
)

// activity is what is done to a host at this moment.
type activity struct {
	text    string
	percent int32
}

// wait looks again and again until ready says yes; until then the rollout is shown to wait for what ready says.
func (x *execution) wait(ctx context.Context, ready func() (ok bool, reason string, until time.Time, err error)) error {
	for {
		ok, reason, until, err := ready()
		if err != nil {
			return err
		}
		if err := x.showWaiting(ctx, !ok, reason, until); err != nil || ok {
			return err
		}
		if err := x.asked(ctx); err != nil {
			return err
		}
		if !sleep(ctx, x.Timings.ReconcileInterval) {
			return ctx.Err()
		}
	}
}

func (x *execution) showWaiting(ctx context.Context, waits bool, reason string, until time.Time) error {
	state := stateRunning
	if waits {
		state = stateWaiting
	}
	fresh := false
	head, err := x.change(ctx, func(head *drydockv1.Rollout) error {
		fresh = waits && head.GetState() != stateWaiting
		if head.GetAsked() != "" {
			return nil
		}
		head.State, head.Reason, head.Until = state, reason, nil
		if !waits {
			head.Reason = ""
		}
		if waits && !until.IsZero() {
			head.Until = timestamppb.New(until)
		}
		return nil
	})
	if err == nil && fresh && head.GetStep() != stepSoak {
		x.notify(head, "waiting", "", reason)
	}
	return err
}

func (x *execution) changedNow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.changed)
	x.changed = make(chan struct{})
}

// show tells watchers what is being done to a host; no text: nothing.
func (x *execution) show(host, text string, percent int32) {
	x.mu.Lock()
	x.live[host] = activity{text, percent}
	if text == "" {
		delete(x.live, host)
	}
	x.mu.Unlock()
	x.changedNow()
}

// changes is closed when there is something new to see.
func (x *execution) changes() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.changed
}

// overlay adds what is being done at this moment.
func (x *execution) overlay(whole *drydockv1.Rollout) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range whole.GetHosts() {
		if now, ok := x.live[h.GetHost()]; ok {
			h.Activity, h.Percent = now.text, now.percent
		}
	}
}

// word is a state as operators know it.
func word(state drydockv1.RolloutState) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "ROLLOUT_STATE_"))
}
