package rollout

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/gate"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
)

func gatesOf(p *pool.Pool) (map[string]*gate.Gate, error) {
	gates := make(map[string]*gate.Gate, len(p.Gates))
	for _, g := range p.Gates {
		ready, err := gate.New(g.Spec(), http.DefaultTransport)
		if err != nil {
			return nil, err
		}
		gates[g.Name] = ready
	}
	return gates, nil
}

func (x *execution) startGates(ctx context.Context, _ *drydockv1.Rollout) error {
	return x.pass(ctx, pool.AtStart, nil)
}

func (x *execution) endGates(ctx context.Context, _ *drydockv1.Rollout) error {
	return x.pass(ctx, pool.AtEnd, nil)
}

func (x *execution) hostGates(ctx context.Context, head *drydockv1.Rollout) error {
	round, err := x.round(ctx, head)
	if err != nil {
		return err
	}
	hosts, err := x.allHosts(ctx, x.id)
	if err != nil {
		return err
	}
	var names []string
	for _, planned := range round.GetHosts() {
		if slices.ContainsFunc(hosts, func(h *drydockv1.RolloutHost) bool {
			return h.GetHost() == planned.GetHost() && h.GetState() == hostPatched
		}) {
			names = append(names, planned.GetHost())
		}
	}
	return x.pass(ctx, pool.AtHost, names)
}

// pass waits until every gate at a point of the rollout is green for every host: for those that are named, or at the start and
// the end for all of the pool. A gate that stays red longer than its patience stops the rollout; one that waits for an operator
// waits on.
func (x *execution) pass(ctx context.Context, at string, hosts []string) error {
	var asked []pool.Gate
	for _, g := range x.pool.Gates {
		if slices.Contains(g.At, at) {
			asked = append(asked, g)
		}
	}
	if len(asked) == 0 || at == pool.AtHost && len(hosts) == 0 {
		return nil
	}
	return x.wait(ctx, func() (bool, string, time.Time, error) {
		verdict, g, host, err := x.worst(ctx, asked, hosts)
		if err != nil {
			return false, "", time.Time{}, err
		}
		reason := fmt.Sprintf("gate %s: %s", verdict.Gate, verdict.Why)
		if host != "" && !verdict.Waits {
			reason = fmt.Sprintf("gate %s, host %s: %s", verdict.Gate, host, verdict.Why)
		}
		if verdict.Waits {
			reason += fmt.Sprintf(" (`drydock rollout approve %s %s`)", x.id, verdict.Gate)
		}
		until, err := x.patience(ctx, verdict, g, reason)
		return verdict.Green, reason, until, err
	})
}

// worst is a red verdict, or else one that waits, or else a green one.
func (x *execution) worst(ctx context.Context, asked []pool.Gate, names []string) (verdict gate.Verdict, of pool.Gate, host string, err error) {
	head, err := x.head(ctx)
	if err != nil {
		return gate.Verdict{}, of, "", err
	}
	subjects, err := x.subjects(ctx, head, names)
	if err != nil {
		return gate.Verdict{}, of, "", err
	}
	gates := make([]*gate.Gate, 0, len(asked))
	for _, g := range asked {
		gates = append(gates, x.gates[g.Name])
	}
	verdict = gate.Verdict{Green: true}
	for _, s := range subjects {
		for i, v := range gate.AskAll(ctx, gates, s) {
			switch {
			case v.Green, v.Waits && !verdict.Green:
			case v.Waits:
				verdict, of, host = v, asked[i], s.Host.GetName()
			case verdict.Green || verdict.Waits:
				verdict, of, host = v, asked[i], s.Host.GetName()
			}
		}
	}
	return verdict, of, host, ctx.Err()
}

// subjects are the hosts that are named, or without names all of the pool, each with its pods.
func (x *execution) subjects(ctx context.Context, head *drydockv1.Rollout, names []string) ([]gate.Subject, error) {
	concerned := func(h *drydockv1.Host) bool {
		if names == nil {
			return x.pool.HasHost(h.GetName(), h.GetInfo().GetLabels())
		}
		return slices.Contains(names, h.GetName())
	}
	approved := func(name string) (string, bool) {
		for _, a := range head.GetApprovals() {
			if a.GetGate() == name && a.GetPoint() == pointOf(head) {
				return a.GetBy(), true
			}
		}
		return "", false
	}
	hosts, err := x.ListHosts(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := x.ListPods(ctx)
	if err != nil {
		return nil, err
	}
	var subjects []gate.Subject
	for _, h := range hosts {
		if !concerned(h) {
			continue
		}
		s := gate.Subject{Host: h, Approved: approved}
		for _, pod := range pods {
			if pod.GetHost() == h.GetName() {
				s.Pods = append(s.Pods, pod)
			}
		}
		subjects = append(subjects, s)
	}
	return subjects, nil
}

// patience journals since when a gate is red, and is a setback where that is longer than its patience.
func (x *execution) patience(ctx context.Context, v gate.Verdict, g pool.Gate, reason string) (until time.Time, err error) {
	red := !v.Green && !v.Waits
	head, err := x.change(ctx, func(head *drydockv1.Rollout) error {
		switch {
		case !red:
			head.RedSince = nil
		case head.GetRedSince() == nil:
			head.RedSince = timestamppb.New(x.Now())
		}
		return nil
	})
	if err != nil || !red {
		return time.Time{}, err
	}
	until = head.GetRedSince().AsTime().Add(g.Patience)
	if x.Now().Before(until) {
		return until, nil
	}
	return until, &setback{fmt.Sprintf("it stayed red for %s", g.Patience),
		[]*drydockv1.Refusal{refusal.Because(reason, "remove the cause, and run `drydock rollout resume "+x.id+"`")}}
}

// soak waits for as long as patched hosts are to be watched.
func (x *execution) soak(ctx context.Context, head *drydockv1.Rollout) error {
	round, err := x.round(ctx, head)
	if err != nil {
		return err
	}
	if round.GetSoak().AsDuration() == 0 {
		return nil
	}
	head, err = x.change(ctx, func(head *drydockv1.Rollout) error {
		if head.GetDeadline() == nil {
			head.Deadline = timestamppb.New(x.Now().Add(round.GetSoak().AsDuration()))
		}
		return nil
	})
	if err != nil {
		return err
	}
	until := head.GetDeadline().AsTime()
	return x.wait(ctx, func() (bool, string, time.Time, error) {
		return !x.Now().Before(until), fmt.Sprintf("the hosts of round %d are watched for %s", head.GetRound()+1, round.GetSoak().AsDuration()), until, nil
	})
}
