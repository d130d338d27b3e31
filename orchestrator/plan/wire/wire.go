// Package wire has plans as messages: as operators see them, and as rollouts keep them.
package wire

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/plan"
)

// Mode is a plan's mode as migrations have it.
func Mode(mode plan.Mode) drydockv1.MigrationMode {
	switch mode {
	case plan.Stop:
		return drydockv1.MigrationMode_MIGRATION_MODE_STOP
	case plan.Precopy:
		return drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY
	case plan.Postcopy:
		return drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY
	}
	return drydockv1.MigrationMode_MIGRATION_MODE_UNSPECIFIED
}

// FromPlan is a plan as operators see it and rollouts keep it; patches are those of its hosts.
func FromPlan(p *plan.Plan, patches map[string]*drydockv1.Patch) *drydockv1.PoolPlan {
	wire := &drydockv1.PoolPlan{
		Pool: p.Pool, Current: p.Current, Skipped: fromBlockers(p.Skipped), Blockers: fromBlockers(p.Blockers), Proven: p.Proven,
		Duration: durationpb.New(p.Duration), Moves: int32(p.Moves), Restarts: int32(p.Restarts),
	}
	for _, round := range p.Rounds {
		wire.Rounds = append(wire.Rounds, fromRound(round, patches))
	}
	pods := p.Forecast()
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		f := pods[name]
		wire.Pods = append(wire.Pods, &drydockv1.PlanPod{Pod: name, Moves: int32(f.Moves), Blackout: durationpb.New(f.Blackout), Host: f.Host})
	}
	return wire
}

func fromBlockers(blockers []plan.Blocker) []*drydockv1.PlanBlocker {
	var wire []*drydockv1.PlanBlocker
	for _, b := range blockers {
		wire = append(wire, &drydockv1.PlanBlocker{Host: b.Host, Pod: b.Pod, Reason: b.Reason, Remedy: b.Remedy})
	}
	return wire
}

func fromRound(round plan.Round, patches map[string]*drydockv1.Patch) *drydockv1.PlanRound {
	wire := &drydockv1.PlanRound{
		Drain: fromStages(round.Drain), Return: fromStages(round.Return),
		Duration: durationpb.New(round.Duration), Soak: durationpb.New(round.Soak),
	}
	for _, h := range round.Hosts {
		wire.Hosts = append(wire.Hosts, &drydockv1.PlanHost{
			Host: h.Host, Why: h.Why, Patch: patches[h.Host], Drained: h.Drained, Reboot: h.Reboot, Duration: durationpb.New(h.Duration),
		})
	}
	return wire
}

func fromStages(stages [][]plan.Move) []*drydockv1.PlanStage {
	var wire []*drydockv1.PlanStage
	for _, stage := range stages {
		one := &drydockv1.PlanStage{}
		for _, m := range stage {
			one.Moves = append(one.Moves, &drydockv1.PlanMove{
				Pod: m.Pod, From: m.From, To: m.To, Why: m.Why, Mode: Mode(m.Mode), Restart: m.Restart,
				Blackout: durationpb.New(m.Blackout), Duration: durationpb.New(m.Duration),
			})
		}
		wire = append(wire, one)
	}
	return wire
}

// ToPlan is what plan.Verify takes of the rounds of a rollout.
func ToPlan(pool string, rounds []*drydockv1.PlanRound) *plan.Plan {
	p := &plan.Plan{Pool: pool}
	for _, wire := range rounds {
		round := plan.Round{Drain: toStages(wire.GetDrain()), Return: toStages(wire.GetReturn())}
		for _, h := range wire.GetHosts() {
			step := plan.HostStep{Host: h.GetHost(), Drained: h.GetDrained(), Reboot: h.GetReboot()}
			for _, p := range h.GetPatch().GetPackages() {
				step.Patch = append(step.Patch, plan.Package{Name: p.GetName(), From: p.GetFrom(), To: p.GetTo()})
			}
			round.Hosts = append(round.Hosts, step)
		}
		p.Rounds = append(p.Rounds, round)
	}
	return p
}

func toStages(wire []*drydockv1.PlanStage) [][]plan.Move {
	var stages [][]plan.Move
	for _, one := range wire {
		var stage []plan.Move
		for _, m := range one.GetMoves() {
			move := plan.Move{Pod: m.GetPod(), From: m.GetFrom(), To: m.GetTo(), Restart: m.GetRestart(), Blackout: m.GetBlackout().AsDuration()}
			for _, mode := range []plan.Mode{plan.Stop, plan.Precopy, plan.Postcopy} {
				if Mode(mode) == m.GetMode() {
					move.Mode = mode
				}
			}
			stage = append(stage, move)
		}
		stages = append(stages, stage)
	}
	return stages
}
