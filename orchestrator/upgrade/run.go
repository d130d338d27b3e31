package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
	"drydock/shim/record"
)

// execution is one upgrade at work in one term.
type execution struct {
	*Services
	id, to        string
	image, digest string
	pair          record.Pair
	down          bool

	mu   sync.Mutex
	live map[string]string
	busy map[string]bool
	// changed is closed, and replaced, whenever there is something new to see.
	changed chan struct{}
}

// Run carries out all upgrades that have not ended, also those of a controller that died, and gives pods the shims that they need,
// until ctx, which is a term's, ends.
func (s *Services) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { s.keepShims(ctx) })
	for ctx.Err() == nil {
		if err := s.carryOut(ctx, &group); err != nil && ctx.Err() == nil {
			s.Log.Error("upgrades", "error", err)
		}
		sleep(ctx, s.LookEvery)
	}
}

func (s *Services) carryOut(ctx context.Context, group *sync.WaitGroup) error {
	items, err := store.List[drydockv1.Upgrade](ctx, s.Store, s.Prefix+"upgrades/")
	if err != nil {
		return err
	}
	var errs []error
	for _, item := range items {
		if !active(item.Value.GetState()) || s.execution(item.Value.GetId()) != nil {
			continue
		}
		x, err := s.executionOf(ctx, item.Value)
		if err != nil {
			errs = append(errs, fmt.Errorf("upgrade %s: %w", item.Value.GetId(), err))
			continue
		}
		s.mu.Lock()
		s.executions[x.id] = x
		s.mu.Unlock()
		group.Go(func() { x.run(ctx) })
	}
	return errors.Join(errs...)
}

func (s *Services) execution(id string) *execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.executions[id]
}

func (s *Services) executionOf(ctx context.Context, u *drydockv1.Upgrade) (*execution, error) {
	item, err := s.service(ctx, u.GetService())
	if err != nil {
		return nil, err
	}
	r, err := s.load(ctx, item.Value)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	x := &execution{
		Services: s, id: u.GetId(), to: u.GetTo(), image: u.GetImage(), digest: u.GetImageDigest(),
		live: make(map[string]string), busy: make(map[string]bool), changed: make(chan struct{}),
	}
	for _, p := range u.GetPods() {
		pair, down, ok := pairBetween(r, p.GetFrom(), u.GetTo())
		if !ok {
			return nil, fmt.Errorf("the record of service %s says nothing between %s and %s", u.GetService(), p.GetFrom(), u.GetTo())
		}
		x.pair, x.down = pair, down
	}
	return x, nil
}

// run goes on until the upgrade rests or the term ends.
func (x *execution) run(ctx context.Context) {
	var group sync.WaitGroup
	for ctx.Err() == nil {
		more, err := x.look(ctx, &group)
		if err != nil && ctx.Err() == nil {
			x.Log.Warn("upgrade is not carried on at the moment", "upgrade", x.id, "error", err)
		}
		if !more && err == nil {
			break
		}
		x.await(ctx)
	}
	group.Wait()
	x.Services.mu.Lock()
	delete(x.executions, x.id)
	x.Services.mu.Unlock()
	x.changedNow()
}

// await waits for the next change, or the next look.
func (x *execution) await(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-x.changes():
	case <-time.After(x.LookEvery):
	}
}

// look is the loop's one look: it lets pods begin whose turn it is, goes on with those that have begun, and ends the upgrade or lets it
// rest when nothing is left to do. It is the only place that does.
func (x *execution) look(ctx context.Context, group *sync.WaitGroup) (more bool, err error) {
	u, err := x.head(ctx)
	if err != nil || !active(u.GetState()) {
		return false, err
	}
	w, err := x.see(ctx, u)
	if err != nil {
		return true, err
	}
	u, err = x.change(ctx, func(u *drydockv1.Upgrade) error { return x.advance(u, w) })
	if err != nil {
		return true, err
	}
	for _, p := range u.GetPods() {
		if inProgress(p) && x.begin(p.GetPod()) {
			group.Go(func() { x.work(ctx, p.GetPod()) })
		}
	}
	if slices.ContainsFunc(u.GetPods(), inProgress) {
		return true, nil
	}
	return x.conclude(ctx, u)
}

// advance changes which pods are begun, and what the upgrade says it waits for.
func (x *execution) advance(u *drydockv1.Upgrade, w world) error {
	if u.GetAsked() != "" || slices.ContainsFunc(u.GetPods(), hasFailed) {
		return nil
	}
	if !slices.ContainsFunc(u.GetPods(), isPending) {
		u.State, u.Reason = running, ""
		return nil
	}
	t := next(u, w)
	for _, p := range u.GetPods() {
		if slices.Contains(t.begin, p.GetPod()) {
			p.State, p.Step, p.Begun, p.Problems = podRunning, steps()[0].name, timestamppb.New(x.Now()), nil
			p.Attempt++
		}
	}
	u.State, u.Reason = running, ""
	if len(t.begin) == 0 && !slices.ContainsFunc(u.GetPods(), inProgress) {
		u.State, u.Reason = waiting, t.reason
	}
	return nil
}

func inProgress(p *drydockv1.UpgradePod) bool {
	return p.GetState() == podRunning || p.GetState() == podUndoing
}
func isPending(p *drydockv1.UpgradePod) bool { return p.GetState() == podPending }
func hasFailed(p *drydockv1.UpgradePod) bool { return p.GetState() == podFailed }

// conclude ends an upgrade of which no pod is in progress, or lets it rest; more: it is to be looked at again.
func (x *execution) conclude(ctx context.Context, u *drydockv1.Upgrade) (more bool, err error) {
	switch {
	case u.GetAsked() == askAbort:
		return false, x.end(ctx, aborted, "aborted by an operator")
	case slices.ContainsFunc(u.GetPods(), hasFailed):
		var problems []*drydockv1.Refusal
		for _, p := range u.GetPods() {
			for _, problem := range p.GetProblems() {
				problems = append(problems, refusal.Because(fmt.Sprintf("pod %s, %s: %s", p.GetPod(), p.GetStep(), problem.GetReason()), problem.GetRemedy()))
			}
		}
		return false, x.rest(ctx, stopped, "a pod failed, and runs the version that it had", problems)
	case u.GetAsked() == askPause:
		return false, x.rest(ctx, paused, "paused by an operator: go on with `drydock upgrade resume "+x.id+"`", nil)
	case slices.ContainsFunc(u.GetPods(), isPending):
		return true, nil
	}
	return false, x.end(ctx, finished, "")
}

func (x *execution) rest(ctx context.Context, state drydockv1.UpgradeState, reason string, problems []*drydockv1.Refusal) error {
	rests := false
	_, err := x.change(ctx, func(u *drydockv1.Upgrade) error {
		rests = u.GetAsked() != askAbort && (state != paused || u.GetAsked() == askPause)
		if !rests { // an operator has said something else meanwhile
			return store.ErrUnchanged
		}
		u.State, u.Reason, u.Problems, u.Asked = state, reason, problems, ""
		return nil
	})
	if err == nil && rests {
		x.Controller.Record(ctx, "upgrade "+word(state), x.id, reason, nil)
	}
	return err
}

// end ends the upgrade, and sets its service free.
func (x *execution) end(ctx context.Context, state drydockv1.UpgradeState, reason string) error {
	for {
		item, err := x.upgrade(ctx, x.id)
		if err != nil {
			return err
		}
		service, err := x.service(ctx, item.Value.GetService())
		if err != nil {
			return err
		}
		u := item.Value
		u.State, u.Reason, u.Asked, u.Ended = state, reason, "", timestamppb.New(x.Now())
		if service.Value.GetUpgrade() == x.id {
			service.Value.Upgrade = ""
		}
		if state == finished {
			if service.Value.Images == nil {
				service.Value.Images = make(map[string]string)
			}
			service.Value.Images[x.to] = x.image
		}
		_, err = x.Store.Txn().If(store.Unchanged(item.Key, item.Revision), store.Unchanged(service.Key, service.Revision)).
			Put(item.Key, u).Put(service.Key, service.Value).Commit(ctx)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil {
			x.Controller.Record(ctx, "upgrade "+word(state), x.id, "service "+u.GetService()+" to "+x.to, nil)
			x.changedNow()
		}
		return err
	}
}
