package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/gate"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
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
	if err != nil && x.Context().Err() == nil {
		x.Log.Warn("rollout is not carried on at the moment", "rollout", x.id, "error", err)
	}
	x.Rollouts.mu.Lock()
	delete(x.executions, x.id)
	x.Rollouts.mu.Unlock()
	x.changedNow()
}

// steps is the loop: it goes from step to step, and is the only place that journals that, and that stops.
func (x *execution) steps(ctx context.Context) error {
	for {
		head, err := x.head(ctx)
		if err != nil || !active(head.GetState()) {
			return err
		}
		switch head.GetAsked() {
		case askPause:
			return x.rest(ctx, statePaused, "paused by an operator: go on with `drydock rollout resume "+x.id+"`", nil)
		case askAbort:
			return x.abort(ctx)
		}
		s, ok := stepNamed(head.GetStep())
		if !ok {
			return x.rest(ctx, stateStopped, "", []*drydockv1.Refusal{refusal.Because("this controller knows no step "+head.GetStep(), "run controllers of one version, and resume it")})
		}
		var failed *setback
		err = x.do(ctx, head, s)
		switch {
		case errors.Is(err, errAsked):
			continue
		case errors.As(err, &failed):
			return x.rest(ctx, stateStopped, s.name+": "+failed.what, failed.reasons)
		case err != nil:
			return err
		}
		if more, err := x.advance(ctx, s); !more || err != nil {
			return err
		}
	}
}

func (x *execution) do(ctx context.Context, head *drydockv1.Rollout, s step) error {
	if err := x.Fault(beginsAt(s)); err != nil {
		return err
	}
	began := x.Now()
	if s.each != nil {
		return x.onHosts(ctx, head, s)
	}
	if err := x.once(ctx, head, s); err != nil {
		return err
	}
	_, err := x.change(ctx, func(head *drydockv1.Rollout) error {
		head.Steps = append(head.Steps, &drydockv1.RolloutStep{
			Name: s.name, Started: timestamppb.New(began), Took: durationpb.New(x.Now().Sub(began)), Round: head.GetRound(),
		})
		return nil
	})
	return err
}

// once does a step of the rollout as a whole, on record where the pool has something for it.
func (x *execution) once(ctx context.Context, head *drydockv1.Rollout, s step) error {
	if s.idle != nil && s.idle(x) {
		return s.all(x, ctx, head)
	}
	why := ""
	if head.GetRound() < head.GetRounds() {
		why = fmt.Sprintf("round %d of %d", head.GetRound()+1, head.GetRounds())
	}
	return x.recorded(ctx, "rollout "+s.name, "rollout "+x.id, why, func() error { return s.all(x, ctx, head) })
}

// advance journals that a step is done, and which comes next; more is false after the last.
func (x *execution) advance(ctx context.Context, s step) (more bool, err error) {
	if err := x.Fault(didAt(s)); err != nil {
		return false, err
	}
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return false, err
	}
	head, err := x.change(ctx, func(head *drydockv1.Rollout) error {
		count(head, hosts)
		head.Step = after(s, head)
		head.Deadline, head.RedSince = nil, nil
		if s.name == stepHostGates {
			head.Round++
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if head.GetStep() != "" {
		return true, nil
	}
	return false, x.finish(ctx, hosts)
}

// after is the name of the step that follows; empty after the last.
func after(s step, head *drydockv1.Rollout) string {
	switch {
	case s.name == stepHostGates:
		return stepAdmit
	case s.name == stepAdmit && head.GetRound() >= head.GetRounds():
		return stepEndGates
	}
	all := steps()
	i := slices.IndexFunc(all, func(other step) bool { return other.name == s.name })
	if i+1 == len(all) {
		return ""
	}
	return all[i+1].name
}

func count(head *drydockv1.Rollout, hosts []*drydockv1.RolloutHost) {
	head.HostsTotal, head.HostsPatched, head.HostsFailed = int32(len(hosts)), 0, 0
	for _, h := range hosts {
		switch h.GetState() {
		case hostPatched:
			head.HostsPatched++
		case hostFailed:
			head.HostsFailed++
		}
	}
}

// head is the rollout without what lies beside it.
func (x *execution) head(ctx context.Context) (*drydockv1.Rollout, error) {
	item, err := x.rollout(ctx, x.id)
	return item.Value.GetRollout(), err
}

func (x *execution) change(ctx context.Context, change func(*drydockv1.Rollout) error) (*drydockv1.Rollout, error) {
	record, err := journal(ctx, x.Store, x.rolloutKey(x.id), func(record *drydockv1.RolloutRecord) error { return change(record.GetRollout()) })
	x.changedNow()
	return record.GetRollout(), err
}

func (x *execution) changeHost(ctx context.Context, name string, change func(*drydockv1.RolloutHost) error) (*drydockv1.RolloutHost, error) {
	h, err := journal(ctx, x.Store, x.hostKey(x.id, name), change)
	x.changedNow()
	return h, err
}

// rest journals that the rollout goes on only when an operator says so.
func (x *execution) rest(ctx context.Context, state drydockv1.RolloutState, reason string, problems []*drydockv1.Refusal) error {
	head, err := x.change(ctx, func(head *drydockv1.Rollout) error {
		head.State, head.Reason, head.Problems, head.Asked, head.Until = state, reason, problems, "", nil
		return nil
	})
	if err != nil {
		return err
	}
	x.Record(ctx, "rollout "+word(state), "rollout "+x.id, reason, nil)
	x.Log.Warn("rollout rests", "rollout", x.id, "state", word(state), "reason", reason, "problems", len(problems))
	if state == stateStopped {
		x.notify(head, "stopped", "", reason)
	}
	return nil
}

// finish ends the rollout, and sets its pool free.
func (x *execution) finish(ctx context.Context, hosts []*drydockv1.RolloutHost) error {
	return x.end(ctx, stateFinished, "finished", "", problemsOf(hosts))
}

func (x *execution) end(ctx context.Context, state drydockv1.RolloutState, event, reason string, problems []*drydockv1.Refusal) error {
	for {
		item, err := x.rollout(ctx, x.id)
		if err != nil {
			return err
		}
		record, err := x.poolRecord(ctx, x.pool.Name)
		if err != nil {
			return err
		}
		head := item.Value.GetRollout()
		head.State, head.Reason, head.Problems, head.Asked, head.Until, head.Ended = state, reason, problems, "", nil, timestamppb.New(x.Now())
		txn := x.Store.Txn().If(store.Unchanged(item.Key, item.Revision), store.Unchanged(record.Key, record.Revision)).Put(item.Key, item.Value)
		if record.Value.GetRollout() == x.id {
			record.Value.Rollout = ""
			txn.Put(record.Key, record.Value)
		}
		_, err = txn.Commit(ctx)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil {
			x.Record(ctx, "rollout "+word(state), "rollout "+x.id, "pool "+x.pool.Name, nil)
			x.Log.Info("rollout ended", "rollout", x.id, "state", word(state))
			x.notify(head, event, "", reason)
			x.changedNow()
		}
		return err
	}
}

func problemsOf(hosts []*drydockv1.RolloutHost) []*drydockv1.Refusal {
	var problems []*drydockv1.Refusal
	for _, h := range hosts {
		if h.GetState() != hostFailed {
			continue
		}
		for _, p := range h.GetProblems() {
			problems = append(problems, refusal.Because(fmt.Sprintf("host %s, %s: %s", h.GetHost(), h.GetStep(), p.GetReason()), p.GetRemedy()))
		}
	}
	return problems
}

// asked says whether an operator wants something else of the rollout.
func (x *execution) asked(ctx context.Context) error {
	head, err := x.head(ctx)
	if err == nil && head.GetAsked() != "" {
		return errAsked
	}
	return err
}

// by is whose cordons and migrations they are.
func (x *execution) by() string { return OwnerPrefix + x.id }
