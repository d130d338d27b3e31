package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
)

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
