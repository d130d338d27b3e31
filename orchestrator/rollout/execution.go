package rollout

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/gate"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/store"
)

// execution is one rollout at work in one term. All that it must not forget is in the store: the next leader carries on from
// there, and every step may be done again.
type execution struct {
	*Rollouts
	Term
	id    string
	pool  *pool.Pool
	gates map[string]*gate.Gate

	mu   sync.Mutex
	live map[string]activity
	// changed is closed, and replaced, whenever there is something new to see.
	changed chan struct{}
}

// errAsked: an operator wants the rollout to rest or to end.
var errAsked = errors.New("an operator has asked for something else")

// setback is why a step failed, with what to do. Every other error says nothing about the step: it is tried again.
type setback struct {
	what    string
	reasons []*drydockv1.Refusal
}

func (s *setback) Error() string {
	parts := make([]string, 0, len(s.reasons))
	for _, reason := range s.reasons {
		parts = append(parts, reason.GetReason())
	}
	return s.what + ": " + strings.Join(parts, "; ")
}

// skipped is why a host is left out without anything having failed.
type skipped struct{ why *drydockv1.Refusal }

func (s *skipped) Error() string { return s.why.GetReason() }

// poolOf is the pool as it was when a rollout began.
func poolOf(record *drydockv1.RolloutRecord) (*pool.Pool, error) {
	return pool.Parse(record.GetPoolFile(), record.GetPool())
}

// carryOut starts the execution of a rollout that is active, if it does not run yet.
func (s *Rollouts) carryOut(term Term, id string) error {
	item, err := s.rollout(term.Context(), id)
	if err != nil || !active(item.Value.GetRollout().GetState()) {
		return err
	}
	p, err := poolOf(item.Value)
	if err != nil {
		return fmt.Errorf("rollout %s: its pool: %w", id, err)
	}
	gates, err := gatesOf(p)
	if err != nil {
		return fmt.Errorf("rollout %s: %w", id, err)
	}
	x := &execution{Rollouts: s, Term: term, id: id, pool: p, gates: gates, live: map[string]activity{}, changed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Of an earlier term nothing is left: its end has waited for its executions.
	if s.executions[id] == nil && term.Go(x.run) {
		s.executions[id] = x
	}
	return nil
}

// carryOutAll starts the executions of all active rollouts.
func (s *Rollouts) carryOutAll(term Term) error {
	items, err := store.List[drydockv1.RolloutRecord](term.Context(), s.Store, s.rolloutKey(""))
	if err != nil {
		return err
	}
	var failed error
	for _, item := range items {
		if rollout := item.Value.GetRollout(); active(rollout.GetState()) {
			failed = errors.Join(failed, s.carryOut(term, rollout.GetId()))
		}
	}
	return failed
}

func (x *execution) run() {
	err := x.steps(x.Context())
	for errors.Is(err, errAsked) {
		err = x.steps(x.Context())
	}
	if err != nil && x.Context().Err() == nil {
		x.Log.Warn("rollout is not carried on at the moment", "rollout", x.id, "error", err)
	}
	x.Rollouts.mu.Lock()
	delete(x.executions, x.id)
	x.Rollouts.mu.Unlock()
	x.changedNow()
}
