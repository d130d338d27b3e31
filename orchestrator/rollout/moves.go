package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
)

// drain moves pods as the plan says, and then, one by one, what is still on the hosts of the round: reality may have become
// another since the plan was made. A host that cannot be emptied has failed, and its pods run on there.
func (x *execution) drain(ctx context.Context, head *drydockv1.Rollout) error {
	round, err := x.round(ctx, head)
	if err != nil {
		return err
	}
	hosts, err := x.hostsOf(ctx, head, false)
	if err != nil {
		return err
	}
	for _, stage := range round.GetDrain() {
		if err := x.stage(ctx, without(stage.GetMoves(), round, hosts)); err != nil {
			return err
		}
	}
	for _, h := range hosts {
		if err := x.clear(ctx, head, h, inPlace(round, h.GetHost())); err != nil {
			return err
		}
	}
	head, err = x.head(ctx)
	if err != nil {
		return err
	}
	if int(head.GetFailedMoves()) > x.pool.ErrorBudget.Moves {
		return &setback{fmt.Sprintf("%d moves were aborted, and the error budget is %d", head.GetFailedMoves(), x.pool.ErrorBudget.Moves),
			[]*drydockv1.Refusal{refusal.Because("moves fail; every pod runs where it was", "see `drydock migration ls`, remove the cause, and run `drydock rollout resume "+x.id+"`")}}
	}
	return nil
}

// without leaves out moves off hosts of the round that do not take part any more.
func without(moves []*drydockv1.PlanMove, round *drydockv1.PlanRound, taking []*drydockv1.RolloutHost) []*drydockv1.PlanMove {
	out := map[string]bool{}
	for _, h := range round.GetHosts() {
		out[h.GetHost()] = true
	}
	for _, h := range taking {
		delete(out, h.GetHost())
	}
	return slices.DeleteFunc(slices.Clone(moves), func(m *drydockv1.PlanMove) bool { return out[m.GetFrom()] })
}

// inPlace are the pods that the plan stops on a host until it is patched.
func inPlace(round *drydockv1.PlanRound, host string) []string {
	var pods []string
	for _, stage := range round.GetReturn() {
		for _, m := range stage.GetMoves() {
			if m.GetRestart() && m.GetFrom() == host && m.GetTo() == host {
				pods = append(pods, m.GetPod())
			}
		}
	}
	return pods
}

// movesAtOnce is how many pods are moved at a time for each host that is patched at a time.
const movesAtOnce = 2

// stage carries out moves that may run at the same time.
func (x *execution) stage(ctx context.Context, moves []*drydockv1.PlanMove) error {
	slots := make(chan struct{}, movesAtOnce*max(x.pool.AtOnce.Hosts, 1))
	errs := make([]error, len(moves))
	var group sync.WaitGroup
	for i, m := range moves {
		slots <- struct{}{}
		if errs[i] = x.asked(ctx); errs[i] != nil {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			errs[i] = x.move(ctx, m)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// move carries out one move of the plan, where the pod is still there to be moved. One that is refused or aborted leaves the pod
// where it was; what follows from that is seen later.
func (x *execution) move(ctx context.Context, m *drydockv1.PlanMove) error {
	own, err := x.settled(ctx, m.GetPod())
	if err != nil || own.State != owner.Running || own.Owner.Host != m.GetFrom() {
		return err
	}
	if m.GetRestart() {
		if m.GetFrom() == m.GetTo() {
			return nil
		}
		return x.restartOn(ctx, m)
	}
	_, err = x.moveTo(ctx, m.GetPod(), m.GetFrom(), m.GetTo(), m.GetWhy())
	if errors.Is(err, errBusy) {
		return nil // where it ends up is seen later
	}
	return err
}

// settled is who runs a pod, once no migration of anyone's is under way, and its host has said that it runs; for that it has as
// long as a boot may take.
func (x *execution) settled(ctx context.Context, pod string) (owner.Record, error) {
	deadline := x.Now().Add(x.Timings.BootTimeout)
	for {
		record, err := x.Pod(ctx, pod)
		if err != nil {
			return owner.Record{}, unlessRemoved(err)
		}
		own, err := x.OwnerOf(ctx, pod)
		if err != nil {
			return own, err
		}
		if record.GetDesired() != drydockv1.DesiredState_DESIRED_STATE_RUNNING {
			return owner.Record{}, nil
		}
		if id := record.GetMigration(); id != "" {
			if err := x.Follow(ctx, id, x.progress(own.Owner.Host)); err != nil {
				return own, err
			}
			continue
		}
		if own.Settled || !own.Owned() || !x.Now().Before(deadline) {
			return own, nil
		}
		if err := x.asked(ctx); err != nil {
			return own, err
		}
		if !sleep(ctx, x.Timings.ReconcileInterval) {
			return own, ctx.Err()
		}
	}
}

// unlessRemoved is the error of a look at a pod, or nil where that is only that the pod was removed meanwhile.
func unlessRemoved(err error) error {
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil
	}
	return err
}

func (x *execution) progress(host string) Tell {
	return func(p *drydockv1.MigrationProgress) error {
		x.show(host, "moves "+p.GetPod()+": "+p.GetStep(), 0)
		return nil
	}
}

// errBusy: somebody else moves the pod at the moment.
var errBusy = errors.New("somebody else moves the pod")

// moveTo migrates a pod and says why it was not, if so. Of the modes that pool and pod allow the source takes the one that fits the
// downtime budget. What is aborted counts against the error budget.
func (x *execution) moveTo(ctx context.Context, pod, from, to, why string) ([]*drydockv1.Refusal, error) {
	before, err := x.OwnerOf(ctx, pod)
	if err != nil {
		return nil, err
	}
	record, err := x.Pod(ctx, pod)
	if err != nil {
		return refusal.Why(err), unlessRemoved(err)
	}
	modes := x.modesFor(record.GetSpec())
	if len(modes) == 0 {
		return []*drydockv1.Refusal{refusal.Because("the pool allows no mode that the pod can be moved with", "allow `stop` or `precopy` in the pool's `pods.modes`")}, nil
	}
	request := &drydockv1.MigratePodRequest{
		Pod: pod, To: to, Mode: drydockv1.MigrationMode_MIGRATION_MODE_AUTO, DowntimeBudget: durationpb.New(x.pool.Pods.DowntimeBudget),
		Modes: modes, AllowPostcopy: slices.Contains(modes, drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY),
	}
	if len(modes) == 1 {
		request.Mode = modes[0] // so that agents of an earlier version take no other
	}
	report, err := x.Move(ctx, request, x.by(), x.why(why), x.progress(from))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && (len(refusal.Of(err)) > 0 || connect.CodeOf(err) == connect.CodeNotFound):
		return refusal.Why(err), x.busy(ctx, pod, before)
	case err != nil:
		return nil, err
	case report.GetOutcome() == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED:
		return nil, nil
	case report.GetOutcome() != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED:
		_, err := x.change(ctx, func(head *drydockv1.Rollout) error {
			head.FailedMoves++
			return nil
		})
		return refusal.OfMigration(report), err
	}
	return refusal.OfMigration(report), nil
}

// busy is errBusy where a move was refused since another one was faster.
func (x *execution) busy(ctx context.Context, pod string, before owner.Record) error {
	record, err := x.Pod(ctx, pod)
	if err != nil {
		return unlessRemoved(err)
	}
	own, err := x.OwnerOf(ctx, pod)
	if err == nil && (record.GetMigration() != "" || own.Epoch != before.Epoch || !own.Settled) {
		return errBusy
	}
	return err
}

// clear moves off what is still on a host that must be empty.
func (x *execution) clear(ctx context.Context, head *drydockv1.Rollout, h *drydockv1.RolloutHost, stopped []string) error {
	if !h.GetDrained() {
		return nil
	}
	var reasons []*drydockv1.Refusal
	pods, err := x.PodsOn(ctx, h.GetHost())
	if err != nil {
		return err
	}
	for _, pod := range pods {
		why, err := x.clearPod(ctx, head, h, pod, slices.Contains(stopped, pod))
		if err != nil {
			return err
		}
		for _, reason := range why {
			reasons = append(reasons, refusal.Because(fmt.Sprintf("pod %s cannot leave: %s", pod, reason.GetReason()), reason.GetRemedy()))
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return x.failHost(ctx, step{name: "drain"}, h, &drydockv1.RolloutStep{Name: "drain", Attempt: h.GetAttempt(), Error: reasons[0].GetReason()}, &setback{"it cannot be emptied", reasons})
}

// clearPod gets one pod off a host, or says why it stays. A move of somebody else's is waited for, and then it is looked at again.
// What is refused is asked for again for as long as a host may be silent: an agent that starts again refuses, or is refused, too.
func (x *execution) clearPod(ctx context.Context, head *drydockv1.Rollout, h *drydockv1.RolloutHost, pod string, stop bool) ([]*drydockv1.Refusal, error) {
	deadline := x.Now().Add(x.Timings.BootTimeout)
	refusedUntil := x.Now().Add(2 * x.Timings.UnreachableAfter)
	for {
		if err := x.asked(ctx); err != nil {
			return nil, err
		}
		own, err := x.settled(ctx, pod)
		if err != nil || own.State != owner.Running || own.Owner.Host != h.GetHost() {
			return nil, err
		}
		if stop {
			return nil, x.stopFor(ctx, h, pod)
		}
		aborted := x.aborted(ctx)
		why, err := x.moveAnywhere(ctx, head, h, pod)
		refused := err == nil && len(why) > 0 && x.aborted(ctx) == aborted
		switch {
		case errors.Is(err, errBusy) && x.Now().Before(deadline), refused && x.Now().Before(refusedUntil):
			if !sleep(ctx, x.Timings.ReconcileInterval) {
				return nil, ctx.Err()
			}
			continue
		case errors.Is(err, errBusy):
			return []*drydockv1.Refusal{refusal.Because("somebody else moves it again and again", "leave it alone, and run `drydock rollout resume "+x.id+"`")}, nil
		case err != nil || len(why) == 0:
			return nil, err
		case x.pool.Pods.CannotMove == pool.CannotMoveStop:
			return nil, x.stopFor(ctx, h, pod)
		}
		return why, nil
	}
}

// aborted is how many moves were tried in vain.
func (x *execution) aborted(ctx context.Context) int32 {
	head, err := x.head(ctx)
	if err != nil {
		return -1
	}
	return head.GetFailedMoves()
}

// returnPods starts again what was stopped, and takes back what the policy says.
func (x *execution) returnPods(ctx context.Context, head *drydockv1.Rollout) error {
	hosts, err := x.hostsOf(ctx, head, false)
	if err != nil {
		return err
	}
	taking := map[string]bool{}
	for _, h := range hosts {
		if err := x.startStopped(ctx, h); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failed := &setback{"pods that were stopped for it do not run again", refusal.Why(err)}
			done := &drydockv1.RolloutStep{Name: "return", Attempt: h.GetAttempt(), Error: failed.Error()}
			if err := x.failHost(ctx, step{name: "return"}, h, done, failed); err != nil {
				return err
			}
			continue
		}
		taking[h.GetHost()] = true
	}
	round, err := x.round(ctx, head)
	if err != nil {
		return err
	}
	for _, stage := range round.GetReturn() {
		var moves []*drydockv1.PlanMove
		for _, m := range stage.GetMoves() {
			if taking[m.GetTo()] {
				moves = append(moves, m)
			}
		}
		if err := x.stage(ctx, moves); err != nil {
			return err
		}
	}
	return nil
}
