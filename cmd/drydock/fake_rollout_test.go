package main

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
)

// fakeRollouts knows the pool web: `blocked` cannot be patched, `current` lacks nothing, the rollout of `stopping` stops, and in that of
// `failing` a host fails; `cut` ends the stream.
type fakeRollouts struct {
	drydockv1connect.UnimplementedRolloutServiceHandler
	*fakeController
}

func (f fakeRollouts) ListPools(_ context.Context, r *connect.Request[v1.ListPoolsRequest]) (*connect.Response[v1.ListPoolsResponse], error) {
	f.record("ListPools", r.Msg)
	if f.empty {
		return answer(&v1.ListPoolsResponse{}, nil)
	}
	return answer(&v1.ListPoolsResponse{
		Pools: []*v1.Pool{
			{Name: "database", Hosts: []string{"h3"}, Schedule: "window", Until: timestamppb.New(theTime().Add(10 * time.Hour)), LastStarted: ago(24 * time.Hour), Problem: "no host lacks anything"},
			{Name: "web", Hosts: []string{"h1", "h2"}, Schedule: "manual", Open: true, Rollout: "r-1"},
		},
		Faults: []*v1.PoolFault{{File: "/etc/drydock/pools/x.yaml", Fault: "/etc/drydock/pools/x.yaml:3:1: `rebot`: is not known: write reboot"}},
	}, nil)
}

func (f fakeRollouts) PlanPool(_ context.Context, r *connect.Request[v1.PlanPoolRequest]) (*connect.Response[v1.PlanPoolResponse], error) {
	f.record("PlanPool", r.Msg)
	return answer(&v1.PlanPoolResponse{Plan: somePlan(r.Msg.Pool)}, f.fault("pool", r.Msg.Pool))
}

func (f fakeRollouts) StartRollout(_ context.Context, r *connect.Request[v1.StartRolloutRequest]) (*connect.Response[v1.StartRolloutResponse], error) {
	f.record("StartRollout", r.Msg)
	if err := f.fault("pool", r.Msg.Pool); err != nil {
		return nil, err
	}
	res := &v1.StartRolloutResponse{Plan: somePlan(r.Msg.Pool)}
	if r.Msg.Pool != "current" {
		res.Rollout = someRollout("r-" + r.Msg.Pool)
	}
	return answer(res, nil)
}

func (f fakeRollouts) ListRollouts(_ context.Context, r *connect.Request[v1.ListRolloutsRequest]) (*connect.Response[v1.ListRolloutsResponse], error) {
	f.record("ListRollouts", r.Msg)
	if f.empty {
		return answer(&v1.ListRolloutsResponse{}, nil)
	}
	one := someRollout("r-1")
	one.Hosts, one.Plan, one.Moves = nil, nil, nil
	return answer(&v1.ListRolloutsResponse{Rollouts: []*v1.Rollout{one}}, nil)
}

func (f fakeRollouts) GetRollout(_ context.Context, r *connect.Request[v1.GetRolloutRequest]) (*connect.Response[v1.GetRolloutResponse], error) {
	f.record("GetRollout", r.Msg)
	return answer(&v1.GetRolloutResponse{Rollout: endOf(someRollout(r.Msg.Id))}, f.fault("rollout", r.Msg.Id))
}

func (f fakeRollouts) WatchRollout(_ context.Context, r *connect.Request[v1.WatchRolloutRequest], s *connect.ServerStream[v1.WatchRolloutResponse]) error {
	f.record("WatchRollout", r.Msg)
	if r.Msg.Id == "r-cut" {
		return nil
	}
	if f.cut && f.times("WatchRollout") == 1 {
		if err := s.Send(&v1.WatchRolloutResponse{Rollout: someRollout(r.Msg.Id)}); err != nil {
			return err
		}
		panic(http.ErrAbortHandler) // what a client sees when the controller dies
	}
	for _, one := range []*v1.Rollout{someRollout(r.Msg.Id), endOf(someRollout(r.Msg.Id))} {
		if err := s.Send(&v1.WatchRolloutResponse{Rollout: one}); err != nil {
			return err
		}
	}
	return nil
}

func (f fakeRollouts) PauseRollout(_ context.Context, r *connect.Request[v1.PauseRolloutRequest]) (*connect.Response[v1.PauseRolloutResponse], error) {
	f.record("PauseRollout", r.Msg)
	return answer(&v1.PauseRolloutResponse{}, f.fault("rollout", r.Msg.Id))
}

func (f fakeRollouts) ResumeRollout(_ context.Context, r *connect.Request[v1.ResumeRolloutRequest]) (*connect.Response[v1.ResumeRolloutResponse], error) {
	f.record("ResumeRollout", r.Msg)
	return answer(&v1.ResumeRolloutResponse{}, f.fault("rollout", r.Msg.Id))
}

func (f fakeRollouts) AbortRollout(_ context.Context, r *connect.Request[v1.AbortRolloutRequest]) (*connect.Response[v1.AbortRolloutResponse], error) {
	f.record("AbortRollout", r.Msg)
	return answer(&v1.AbortRolloutResponse{}, f.fault("rollout", r.Msg.Id))
}

func (f fakeRollouts) ApproveGate(_ context.Context, r *connect.Request[v1.ApproveGateRequest]) (*connect.Response[v1.ApproveGateResponse], error) {
	f.record("ApproveGate", r.Msg)
	return answer(&v1.ApproveGateResponse{}, f.fault("rollout", r.Msg.Rollout))
}

func somePlan(pool string) *v1.PoolPlan {
	switch pool {
	case "current":
		return &v1.PoolPlan{Pool: pool, Current: []string{"h1", "h2"}}
	case "blocked":
		return &v1.PoolPlan{Pool: pool, Proven: true, Current: []string{"h2"}, Blockers: []*v1.PlanBlocker{
			{Host: "h1", Pod: "redis", Reason: "it uses io_uring", Remedy: "write `pods.cannot-move: stop`"}, {Host: "h3", Reason: "host h3: its archive's metadata has expired", Remedy: "refresh it"},
		}}
	}
	return &v1.PoolPlan{
		Pool: pool, Moves: 2, Restarts: 1, Duration: durationpb.New(12 * time.Minute),
		Rounds: []*v1.PlanRound{{
			Hosts: []*v1.PlanHost{{Host: "h1", Why: "few pods to move", Patch: somePatch(), Drained: true, Reboot: true, Duration: ms(130000)}},
			Drain: []*v1.PlanStage{{Moves: []*v1.PlanMove{
				{Pod: "redis", From: "h1", To: "h2", Why: "no patched host has room for it", Mode: v1.MigrationMode_MIGRATION_MODE_STOP, Blackout: ms(412), Duration: ms(2400)},
				{Pod: "web", From: "h1", To: "h2", Why: "no patched host has room for it", Restart: true, Blackout: ms(32000), Duration: ms(32000)},
			}}},
			Return:   []*v1.PlanStage{{Moves: []*v1.PlanMove{{Pod: "redis", From: "h2", To: "h1", Why: "its host is patched", Mode: v1.MigrationMode_MIGRATION_MODE_STOP, Blackout: ms(412), Duration: ms(2400)}}}},
			Duration: ms(132000), Soak: ms(600000),
		}},
		Pods:    []*v1.PlanPod{{Pod: "redis", Moves: 2, Blackout: ms(824), Host: "h1"}, {Pod: "web", Moves: 1, Blackout: ms(32000), Host: "h2"}},
		Current: []string{"h2"},
		Skipped: []*v1.PlanBlocker{{Host: "h3", Reason: "host h3 is cordoned: by admin since yesterday", Remedy: "run `drydock host resume h3`"}},
	}
}

func somePatch() *v1.Patch {
	return &v1.Patch{
		Packages: []*v1.PinnedPackage{
			{Name: "linux-image-amd64", From: "6.12.1", To: "6.12.94", Security: true, Reason: "DSA-1"},
			{Name: "openssl", From: "3.5.1", To: "3.5.4", Security: true, Origin: "Debian-Security"},
		},
		RebootRequired: true, RebootReasons: []string{"kernel 6.12.94 is installed, and 6.12.1 runs"}, Kernel: "6.12.94",
	}
}

// someRollout is one in the middle of its only host.
func someRollout(id string) *v1.Rollout {
	return &v1.Rollout{
		Id: id, Pool: "web", State: v1.RolloutState_ROLLOUT_STATE_RUNNING, StartedBy: "admin", Started: ago(5 * time.Minute), Rounds: 1, Step: "patch", HostsTotal: 1,
		Hosts: []*v1.RolloutHost{{
			Host: "h1", State: v1.RolloutHostState_ROLLOUT_HOST_STATE_RUNNING, Step: "patch", Patch: somePatch(), Drained: true, Reboot: true, Activity: "unpacks openssl", Percent: 50,
			Steps: []*v1.RolloutStep{{Name: "download", Took: ms(900)}, {Name: "cordon", Took: ms(10)}},
		}},
		Moves: []*v1.RolloutMove{{
			Pod: "redis", From: "h1", To: "h2", Migration: "m-1", Mode: v1.MigrationMode_MIGRATION_MODE_STOP,
			Outcome: v1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED, Freeze: ms(412), Finished: ago(4 * time.Minute),
		}},
	}
}

// endOf is what becomes of it: as its id says.
func endOf(r *v1.Rollout) *v1.Rollout {
	h := r.Hosts[0]
	h.Activity, h.Percent = "", 0
	problem := []*v1.Refusal{{Reason: "host h1, patch: postinst of openssl failed", Remedy: "mend it with `dpkg --configure -a`"}}
	switch r.Id {
	case "r-stopping", "r-stopped":
		r.State, r.Reason, r.Problems, r.HostsFailed = v1.RolloutState_ROLLOUT_STATE_STOPPED, "admit: 1 host failed, and the error budget is 0", problem, 1
		h.State = v1.RolloutHostState_ROLLOUT_HOST_STATE_FAILED
	case "r-failing":
		r.State, r.Problems, r.HostsFailed, r.Ended = v1.RolloutState_ROLLOUT_STATE_FINISHED, problem, 1, ago(0)
		h.State = v1.RolloutHostState_ROLLOUT_HOST_STATE_FAILED
	default:
		r.State, r.HostsPatched, r.Ended, r.Step = v1.RolloutState_ROLLOUT_STATE_FINISHED, 1, ago(0), ""
		h.State, h.Step, h.RebootKind = v1.RolloutHostState_ROLLOUT_HOST_STATE_PATCHED, "after-hooks", "simulated"
	}
	return r
}
