package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
)

// hostsAtOnce is how many hosts are asked at a time, and more where the pool has more patched at a time.
const hostsAtOnce = 8

// onHosts does a step for each of its hosts at the same time. One that fails is out; the others go on.
func (x *execution) onHosts(ctx context.Context, head *drydockv1.Rollout, s step) error {
	hosts, err := x.hostsOf(ctx, head, s.every)
	if err != nil {
		return err
	}
	why, err := x.whyOn(ctx, head, s)
	if err != nil {
		return err
	}
	slots := make(chan struct{}, max(x.pool.AtOnce.Hosts, hostsAtOnce))
	errs := make([]error, len(hosts))
	var group sync.WaitGroup
	for i, h := range hosts {
		if stepDone(h, s.name) {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			errs[i] = x.onHost(ctx, s, h, why(h))
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// hostsOf are the hosts of the round that take part in it, or all that are left.
func (x *execution) hostsOf(ctx context.Context, head *drydockv1.Rollout, every bool) ([]*drydockv1.RolloutHost, error) {
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return nil, err
	}
	var inRound []string
	if !every {
		round, err := x.round(ctx, head)
		if err != nil {
			return nil, err
		}
		for _, h := range round.GetHosts() {
			inRound = append(inRound, h.GetHost())
		}
	}
	return slices.DeleteFunc(hosts, func(h *drydockv1.RolloutHost) bool {
		if every {
			return h.GetState() != hostPending && h.GetState() != hostRunning
		}
		return h.GetState() != hostRunning || !slices.Contains(inRound, h.GetHost())
	}), nil
}

// round is what is planned for the round that the rollout is in.
func (x *execution) round(ctx context.Context, head *drydockv1.Rollout) (*drydockv1.PlanRound, error) {
	rounds, err := x.allRounds(ctx, x.id)
	if err != nil {
		return nil, err
	}
	if int(head.GetRound()) >= len(rounds) {
		return &drydockv1.PlanRound{}, nil
	}
	return rounds[head.GetRound()], nil
}

func stepDone(h *drydockv1.RolloutHost, name string) bool {
	return slices.ContainsFunc(h.GetSteps(), func(s *drydockv1.RolloutStep) bool {
		return s.GetName() == name && s.GetAttempt() == h.GetAttempt() && s.GetError() == ""
	})
}

// onHost does a step for a host and journals what came of it.
func (x *execution) onHost(ctx context.Context, s step, h *drydockv1.RolloutHost, why string) error {
	h, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		if h.GetStep() != s.name {
			h.Step, h.Deadline = s.name, nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	done := &drydockv1.RolloutStep{Name: s.name, Started: timestamppb.New(x.Now()), Attempt: h.GetAttempt()}
	if s.leave != nil {
		done.Skipped = s.leave(x, h)
	}
	if done.GetSkipped() == "" {
		x.show(h.GetHost(), s.name, 0)
		err = x.recorded(ctx, "rollout "+s.name, "host "+h.GetHost(), why, func() error { return s.each(x, ctx, h) })
		x.show(h.GetHost(), "", 0)
	}
	done.Took = durationpb.New(x.Now().Sub(done.GetStarted().AsTime()))
	var failed *setback
	var left *skipped
	switch {
	case errors.As(err, &left):
		return x.skipHost(ctx, h, left.why)
	case errors.As(err, &failed):
		done.Error = failed.Error()
		return x.failHost(ctx, s, h, done, failed)
	case err != nil:
		return err
	}
	if err := x.Fault(didOn(s, h.GetHost())); err != nil {
		return err
	}
	h, err = x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.Steps = append(h.Steps, done)
		if s.last {
			h.State = hostPatched
		}
		return nil
	})
	if err == nil && s.last {
		err = x.tellPatched(ctx, h)
	}
	return err
}

func (x *execution) tellPatched(ctx context.Context, h *drydockv1.RolloutHost) error {
	head, err := x.head(ctx)
	if err != nil {
		return err
	}
	x.Log.Info("host patched", "rollout", x.id, "host", h.GetHost())
	x.Record(ctx, "patch", "host "+h.GetHost(), x.why(contentsOf(h.GetPatch())), nil)
	x.notify(head, "host-patched", h.GetHost(), fmt.Sprintf("%d packages", len(h.GetPatch().GetPackages())))
	return nil
}
