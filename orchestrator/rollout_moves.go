package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/store"
)

// drain moves pods as the plan says, and then, one by one, what is still on the hosts of the round: reality may have become
// another since the plan was made. A host that cannot be emptied has failed, and its pods run on there.
func (x *execution) drain(ctx context.Context, head *drydockv1.Rollout) error {
	round, err := x.round(ctx, head)
	if err != nil {
		return err
	}
	for _, stage := range round.GetDrain() {
		if err := x.stage(ctx, stage.GetMoves()); err != nil {
			return err
		}
	}
	hosts, err := x.hostsOf(ctx, head, false)
	if err != nil {
		return err
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
			[]*drydockv1.Refusal{because("moves fail; every pod runs where it was", "see `drydock migration ls`, remove the cause, and run `drydock rollout resume "+x.id+"`")}}
	}
	return nil
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

// stage carries out moves that may run at the same time.
func (x *execution) stage(ctx context.Context, moves []*drydockv1.PlanMove) error {
	slots := make(chan struct{}, max(defaultParallel*x.pool.AtOnce.Hosts, defaultParallel))
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
	_, err = x.moveTo(ctx, m.GetPod(), m.GetFrom(), m.GetTo(), m.GetMode())
	return err
}

// settled is who runs a pod, once no migration of anyone's is under way.
func (x *execution) settled(ctx context.Context, pod string) (owner.Record, error) {
	for {
		item, err := x.pod(ctx, pod)
		if err != nil {
			return owner.Record{}, nil // it was removed meanwhile
		}
		own, err := x.ownerOf(ctx, pod)
		if err != nil {
			return own, err
		}
		if item.Value.GetDesired() != wantRunning {
			return owner.Record{}, nil
		}
		if id := item.Value.GetMigration(); id != "" {
			migration, err := store.Get[drydockv1.MigrationRecord](ctx, x.store, migrationKey(id))
			if err != nil {
				return own, err
			}
			if _, err := x.follow(x.r, migration.Value.GetSpec()).watch(ctx, x.r, x.progress(own.Owner.Host)); err != nil {
				return own, err
			}
			continue
		}
		if own.Settled || !own.Owned() {
			return own, nil
		}
		if err := x.asked(ctx); err != nil {
			return own, err
		}
		if !sleep(ctx, x.config.Timings.ReconcileInterval) {
			return own, ctx.Err()
		}
	}
}

func (x *execution) progress(host string) func(*drydockv1.MigrationProgress) error {
	return func(p *drydockv1.MigrationProgress) error {
		x.show(host, "moves "+p.GetPod()+": "+p.GetStep(), 0)
		return nil
	}
}

// moveTo migrates a pod and says why it was not, if so. What is aborted counts against the error budget.
func (x *execution) moveTo(ctx context.Context, pod, from, to string, mode drydockv1.MigrationMode) ([]*drydockv1.Refusal, error) {
	report, err := x.migrate(ctx, x.r, &drydockv1.MigratePodRequest{
		Pod: pod, To: to, Mode: mode, DowntimeBudget: durationpb.New(x.pool.Pods.DowntimeBudget),
		AllowPostcopy: mode == drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY,
	}, x.by(), x.progress(from))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return whyNot(err), nil
	case report.GetOutcome() == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED:
		return nil, nil
	case report.GetOutcome() != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED:
		_, err := x.change(ctx, func(head *drydockv1.Rollout) error {
			head.FailedMoves++
			return nil
		})
		return failures(report), err
	}
	return failures(report), nil
}

// clear moves off what is still on a host that must be empty.
func (x *execution) clear(ctx context.Context, head *drydockv1.Rollout, h *drydockv1.RolloutHost, stopped []string) error {
	if !h.GetDrained() {
		return nil
	}
	var reasons []*drydockv1.Refusal
	pods, err := x.running(ctx, h.GetHost())
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if err := x.asked(ctx); err != nil {
			return err
		}
		own, err := x.settled(ctx, pod)
		if err != nil {
			return err
		}
		if own.State != owner.Running || own.Owner.Host != h.GetHost() {
			continue
		}
		if slices.Contains(stopped, pod) {
			if err := x.stopFor(ctx, h, pod); err != nil {
				return err
			}
			continue
		}
		why, err := x.moveAnywhere(ctx, head, h, pod)
		if err != nil {
			return err
		}
		if len(why) > 0 && x.pool.Pods.CannotMove == pool.CannotMoveStop {
			err, why = x.stopFor(ctx, h, pod), nil
		}
		if err != nil {
			return err
		}
		for _, reason := range why {
			reasons = append(reasons, because(fmt.Sprintf("pod %s cannot leave: %s", pod, reason.GetReason()), reason.GetRemedy()))
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return x.failHost(ctx, rolloutStep{name: "drain"}, h, &drydockv1.RolloutStep{Name: "drain", Attempt: h.GetAttempt(), Error: reasons[0].GetReason()}, &setback{"it cannot be emptied", reasons})
}

// moveAnywhere moves a pod to the best of the pool's other hosts that takes it: patched ones first, then by free memory.
func (x *execution) moveAnywhere(ctx context.Context, head *drydockv1.Rollout, from *drydockv1.RolloutHost, pod string) ([]*drydockv1.Refusal, error) {
	item, err := x.pod(ctx, pod)
	if err != nil {
		return nil, nil
	}
	candidates, reasons, err := x.candidates(ctx, head, item.Value.GetSpec())
	if err != nil {
		return nil, err
	}
	for _, to := range candidates {
		if to.name() == from.GetHost() {
			continue
		}
		for _, mode := range x.modes(item.Value.GetSpec()) {
			why, err := x.moveTo(ctx, pod, from.GetHost(), to.name(), mode)
			if err != nil || len(why) == 0 {
				return nil, err
			}
			reasons = append(reasons, why...)
		}
	}
	if len(reasons) == 0 {
		reasons = append(reasons, because("there is no other host that it could go to", "add a host to the pool"))
	}
	return reasons, nil
}

func (x *execution) modes(spec *drydockv1.PodSpec) []drydockv1.MigrationMode {
	modes := []drydockv1.MigrationMode{drydockv1.MigrationMode_MIGRATION_MODE_STOP}
	if !slices.Contains(x.pool.Pods.Modes, string(plan.Stop)) && !slices.Contains(x.pool.Pods.Modes, string(plan.Precopy)) {
		modes = nil
	}
	if slices.Contains(x.pool.Pods.Modes, string(plan.Postcopy)) && spec.GetAllowPostcopy() {
		modes = append(modes, drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY)
	}
	return modes
}

// candidates are the pool's hosts that are not being patched, have room, and hold none of those that the pod is kept apart from.
func (x *execution) candidates(ctx context.Context, head *drydockv1.Rollout, spec *drydockv1.PodSpec) ([]host, []*drydockv1.Refusal, error) {
	s, err := x.surveyLeft(ctx)
	if err != nil {
		return nil, nil, err
	}
	round, err := x.round(ctx, head)
	if err != nil {
		return nil, nil, err
	}
	but := s.hostsOfOthersApart(spec)
	for _, h := range round.GetHosts() {
		but = append(but, h.GetHost())
	}
	members := map[string]host{}
	for _, name := range s.members {
		if s.away[name] == nil {
			members[name] = s.hosts[name]
		}
	}
	ranked, reasons := rank(members, needOf(spec), but)
	slices.SortStableFunc(ranked, func(a, b host) int {
		left := func(h host) int { return len(s.patches[h.name()].GetPackages()) }
		return cmp.Compare(min(left(a), 1), min(left(b), 1))
	})
	return ranked, reasons, nil
}

// hostsOfOthersApart are the hosts to which a pod may not go, since another of a group is there.
func (s *survey) hostsOfOthersApart(spec *drydockv1.PodSpec) []string {
	domain := func(name string) string {
		return cmp.Or(s.hosts[name].report.GetInfo().GetLabels()[s.pool.AtOnce.FailureDomain], name)
	}
	var names []string
	for _, group := range plan.ApartOf(s.pool, spec.GetName(), spec.GetLabels()) {
		for _, other := range s.pods {
			if other.spec.GetName() == spec.GetName() || !slices.Contains(plan.ApartOf(s.pool, other.spec.GetName(), other.spec.GetLabels()), group) {
				continue
			}
			for _, name := range s.members {
				if name == other.host || group.Domain && domain(name) == domain(other.host) {
					names = append(names, name)
				}
			}
		}
	}
	return names
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
			return x.failed("pods that were stopped for "+h.GetHost()+" do not run again", err)
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
