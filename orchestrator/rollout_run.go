package orchestrator

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
	"drydock/orchestrator/store"
)

// execution is one rollout at work in one term. All that it must not forget is in the store: the next leader carries on from
// there, and every step may be done again.
type execution struct {
	*Controller
	r     *reign
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
func (c *Controller) carryOut(r *reign, id string) error {
	item, err := c.rollout(r.ctx, id)
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
	x := &execution{Controller: c, r: r, id: id, pool: p, gates: gates, live: map[string]activity{}, changed: make(chan struct{})}
	r.mu.Lock()
	_, runs := r.rollouts[id]
	if !runs {
		r.rollouts[id] = x
	}
	r.mu.Unlock()
	if !runs {
		r.spawn(x.run)
	}
	return nil
}

// carryOutAll starts the executions of all active rollouts.
func (c *Controller) carryOutAll(r *reign) error {
	items, err := store.List[drydockv1.RolloutRecord](r.ctx, c.store, keyRollouts)
	if err != nil {
		return err
	}
	var failed error
	for _, item := range items {
		if rollout := item.Value.GetRollout(); active(rollout.GetState()) {
			failed = errors.Join(failed, c.carryOut(r, rollout.GetId()))
		}
	}
	return failed
}

func (x *execution) run() {
	err := x.steps(x.r.ctx)
	if err != nil && x.r.ctx.Err() == nil {
		x.log.Warn("rollout is not carried on at the moment", "rollout", x.id, "error", err)
	}
	x.r.mu.Lock()
	delete(x.r.rollouts, x.id)
	x.r.mu.Unlock()
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
			return x.rest(ctx, rolloutPaused, "paused by an operator: go on with `drydock rollout resume "+x.id+"`", nil)
		case askAbort:
			return x.abort(ctx)
		}
		step, ok := stepNamed(head.GetStep())
		if !ok {
			return x.rest(ctx, rolloutStopped, "", []*drydockv1.Refusal{because("this controller knows no step "+head.GetStep(), "run controllers of one version, and resume it")})
		}
		var failed *setback
		err = x.do(ctx, head, step)
		switch {
		case errors.Is(err, errAsked):
			continue
		case errors.As(err, &failed):
			return x.rest(ctx, rolloutStopped, step.name+": "+failed.what, failed.reasons)
		case err != nil:
			return err
		}
		if more, err := x.advance(ctx, step); !more || err != nil {
			return err
		}
	}
}

func (x *execution) do(ctx context.Context, head *drydockv1.Rollout, step rolloutStep) error {
	if err := x.fault("rollout begins " + step.name); err != nil {
		return err
	}
	began := x.now()
	if step.each != nil {
		return x.onHosts(ctx, head, step)
	}
	if err := x.once(ctx, head, step); err != nil {
		return err
	}
	_, err := x.change(ctx, func(head *drydockv1.Rollout) error {
		head.Steps = append(head.Steps, &drydockv1.RolloutStep{
			Name: step.name, Started: timestamppb.New(began), Took: durationpb.New(x.now().Sub(began)), Round: head.GetRound(),
		})
		return nil
	})
	return err
}

// once does a step of the rollout as a whole, on record where the pool has something for it.
func (x *execution) once(ctx context.Context, head *drydockv1.Rollout, step rolloutStep) error {
	if step.idle != nil && step.idle(x) {
		return step.all(x, ctx, head)
	}
	why := ""
	if head.GetRound() < head.GetRounds() {
		why = fmt.Sprintf("round %d of %d", head.GetRound()+1, head.GetRounds())
	}
	return x.recorded(ctx, "rollout "+step.name, "rollout "+x.id, why, func() error { return step.all(x, ctx, head) })
}

// advance journals that a step is done, and which comes next; more is false after the last.
func (x *execution) advance(ctx context.Context, step rolloutStep) (more bool, err error) {
	if err := x.fault("rollout did " + step.name); err != nil {
		return false, err
	}
	hosts, err := x.rolloutHosts(ctx, x.id)
	if err != nil {
		return false, err
	}
	head, err := x.change(ctx, func(head *drydockv1.Rollout) error {
		count(head, hosts)
		head.Step = after(step, head)
		head.Deadline, head.RedSince = nil, nil
		if step.name == stepHostGates {
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
func after(step rolloutStep, head *drydockv1.Rollout) string {
	switch {
	case step.name == stepHostGates:
		return stepAdmit
	case step.name == stepAdmit && head.GetRound() >= head.GetRounds():
		return stepEndGates
	}
	all := rolloutSteps()
	i := slices.IndexFunc(all, func(s rolloutStep) bool { return s.name == step.name })
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
	record, err := journal(ctx, x.Controller, x.r, rolloutKey(x.id), func(record *drydockv1.RolloutRecord) error { return change(record.GetRollout()) })
	x.changedNow()
	return record.GetRollout(), err
}

func (x *execution) changeHost(ctx context.Context, name string, change func(*drydockv1.RolloutHost) error) (*drydockv1.RolloutHost, error) {
	h, err := journal(ctx, x.Controller, x.r, rolloutHostKey(x.id, name), change)
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
	x.record(ctx, "rollout "+stateWord(state), "rollout "+x.id, reason, nil)
	x.log.Warn("rollout rests", "rollout", x.id, "state", stateWord(state), "reason", reason, "problems", len(problems))
	if state == rolloutStopped {
		x.notify(head, "stopped", "", reason)
	}
	return nil
}

// finish ends the rollout, and sets its pool free.
func (x *execution) finish(ctx context.Context, hosts []*drydockv1.RolloutHost) error {
	return x.end(ctx, rolloutFinished, "finished", "", problemsOf(hosts))
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
		head.State, head.Reason, head.Problems, head.Asked, head.Until, head.Ended = state, reason, problems, "", nil, timestamppb.New(x.now())
		txn := x.store.Txn().If(x.r.term.Holds(), store.Unchanged(item.Key, item.Revision), store.Unchanged(record.Key, record.Revision)).Put(item.Key, item.Value)
		if record.Value.GetRollout() == x.id {
			record.Value.Rollout = ""
			txn.Put(record.Key, record.Value)
		}
		_, err = txn.Commit(ctx)
		if errors.Is(err, store.ErrConflict) {
			if err := x.stillLeads(ctx, x.r); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			x.record(ctx, "rollout "+stateWord(state), "rollout "+x.id, "pool "+x.pool.Name, nil)
			x.log.Info("rollout ended", "rollout", x.id, "state", stateWord(state))
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
			problems = append(problems, because(fmt.Sprintf("host %s, %s: %s", h.GetHost(), h.GetStep(), p.GetReason()), p.GetRemedy()))
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
func (x *execution) by() string { return rolloutOwner + x.id }
