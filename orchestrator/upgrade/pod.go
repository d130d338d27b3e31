package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
)

// begin makes the caller the only one who works on a pod.
func (x *execution) begin(pod string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.busy[pod] {
		return false
	}
	x.busy[pod] = true
	return true
}

// work takes a pod from step to step, forwards or back, until it has come to an end.
func (x *execution) work(ctx context.Context, pod string) {
	defer func() {
		x.mu.Lock()
		delete(x.busy, pod)
		x.mu.Unlock()
		x.changedNow()
	}()
	for ctx.Err() == nil {
		more, err := x.stepOf(ctx, pod)
		if err != nil && ctx.Err() == nil {
			x.show(pod, err.Error())
			x.Log.Info("upgrade: tried again", "upgrade", x.id, "pod", pod, "error", err)
			sleep(ctx, x.LookEvery)
		}
		if !more && err == nil {
			return
		}
	}
}

// stepOf does the next step of a pod, or undoes the last, and journals it.
func (x *execution) stepOf(ctx context.Context, pod string) (more bool, err error) {
	u, err := x.head(ctx)
	if err != nil {
		return true, err
	}
	p := podOf(u, pod)
	if !inProgress(p) {
		return false, nil
	}
	i := stepIndex(p.GetStep())
	if i < 0 {
		return false, fmt.Errorf("this controller knows no step %q: run controllers of one version", p.GetStep())
	}
	s := steps()[i]
	if p.GetState() == podUndoing {
		return true, x.back(ctx, s, i, p)
	}
	if u.GetAsked() == askAbort && !s.last {
		return true, x.changeOne(ctx, pod, func(p *drydockv1.UpgradePod) { p.State = podUndoing })
	}
	if err := x.fault("upgrade begins " + s.name + " of " + pod); err != nil {
		return false, err
	}
	began := x.Now()
	err = s.do(x, ctx, p)
	var failure *setback
	var out *left
	switch {
	case errors.As(err, &failure):
		return true, x.changeOne(ctx, pod, func(p *drydockv1.UpgradePod) {
			p.State, p.Problems = podUndoing, []*drydockv1.Refusal{failure.why}
			p.Steps = append(p.Steps, x.journaled(s, p, began, failure.Error(), false))
		})
	case errors.As(err, &out):
		return false, x.changeOne(ctx, pod, func(p *drydockv1.UpgradePod) { p.State, p.Problems = podSkipped, []*drydockv1.Refusal{out.why} })
	case err != nil:
		return true, err
	}
	x.show(pod, "")
	if err := x.fault("upgrade did " + s.name + " of " + pod); err != nil {
		return false, err
	}
	return true, x.changeOne(ctx, pod, func(p *drydockv1.UpgradePod) {
		p.Steps = append(p.Steps, x.journaled(s, p, began, "", false))
		if i+1 < len(steps()) {
			p.Step = steps()[i+1].name
			return
		}
		p.State, p.Step, p.Ended = podUpgraded, "", timestamppb.New(x.Now())
	})
}

// back undoes a step, and turns to the one before it.
func (x *execution) back(ctx context.Context, s step, i int, p *drydockv1.UpgradePod) error {
	if err := x.fault("upgrade undoes " + s.name + " of " + p.GetPod()); err != nil {
		return err
	}
	began := x.Now()
	if s.undo != nil {
		if err := s.undo(x, ctx, p); err != nil {
			return fmt.Errorf("undo %s: %w", s.name, err)
		}
		x.show(p.GetPod(), "")
	}
	return x.changeOne(ctx, p.GetPod(), func(p *drydockv1.UpgradePod) {
		if s.undo != nil {
			p.Steps = append(p.Steps, x.journaled(s, p, began, "", true))
		}
		if i > 0 {
			p.Step = steps()[i-1].name
			return
		}
		p.State, p.Step, p.Ended = podPending, "", timestamppb.New(x.Now())
		if len(p.GetProblems()) > 0 {
			p.State, p.Step = podFailed, failedStep(p)
		}
	})
}

func failedStep(p *drydockv1.UpgradePod) string {
	for _, s := range slices.Backward(p.GetSteps()) {
		if s.GetError() != "" {
			return s.GetName()
		}
	}
	return ""
}

func (x *execution) journaled(s step, p *drydockv1.UpgradePod, began time.Time, fault string, undone bool) *drydockv1.UpgradeStep {
	return &drydockv1.UpgradeStep{
		Name: s.name, Started: timestamppb.New(began), Took: durationpb.New(x.Now().Sub(began)), Error: fault, Undone: undone, Attempt: p.GetAttempt(),
	}
}

// place is where a pod is.
type place struct {
	name  string
	epoch uint64
	agent drydockv1connect.AgentServiceClient
}

// hostGone is that a pod's host is dead or forgotten.
type hostGone struct{ error }

func gone(err error) bool {
	var g hostGone
	return errors.As(err, &g)
}

func (x *execution) host(ctx context.Context, p *drydockv1.UpgradePod) (place, error) {
	pod, err := x.Controller.GetPod(ctx, p.GetPod())
	if err != nil {
		return place{}, err
	}
	agent, dead, err := x.Controller.Agent(ctx, "upgrade pod "+p.GetPod(), pod.GetHost())
	if dead {
		return place{}, hostGone{err}
	}
	return place{name: pod.GetHost(), epoch: pod.GetEpoch(), agent: agent}, err
}
