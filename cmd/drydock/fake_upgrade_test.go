package main

import (
	"context"
	"time"

	"connectrpc.com/connect"

	v1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
)

// fakeUpgrades knows the service shop; an upgrade of `failing` stops, and `current` has the version already.
type fakeUpgrades struct {
	drydockv1connect.UnimplementedUpgradeServiceHandler
	*fakeController
}

func (f fakeUpgrades) ApplyService(_ context.Context, r *connect.Request[v1.ApplyServiceRequest]) (*connect.Response[v1.ApplyServiceResponse], error) {
	f.record("ApplyService", &v1.ApplyServiceRequest{Name: r.Msg.Name, File: r.Msg.File}) // the text is the test's own
	s := someService(r.Msg.Name)
	s.Pods, s.Clients, s.Translators, s.Gateway = nil, nil, nil, nil
	return answer(&v1.ApplyServiceResponse{Service: s}, nil)
}

func (f fakeUpgrades) ListServices(_ context.Context, r *connect.Request[v1.ListServicesRequest]) (*connect.Response[v1.ListServicesResponse], error) {
	f.record("ListServices", r.Msg)
	if f.empty {
		return answer(&v1.ListServicesResponse{}, nil)
	}
	one := someService("shop")
	one.Pods, one.Clients, one.Translators, one.Gateway = nil, nil, nil, nil
	return answer(&v1.ListServicesResponse{Services: []*v1.Service{one}}, nil)
}

func (f fakeUpgrades) GetService(_ context.Context, r *connect.Request[v1.GetServiceRequest]) (*connect.Response[v1.GetServiceResponse], error) {
	f.record("GetService", r.Msg)
	return answer(&v1.GetServiceResponse{Service: someService(r.Msg.Name)}, f.fault("service", r.Msg.Name))
}

func (f fakeUpgrades) RemoveService(_ context.Context, r *connect.Request[v1.RemoveServiceRequest]) (*connect.Response[v1.RemoveServiceResponse], error) {
	f.record("RemoveService", r.Msg)
	return answer(&v1.RemoveServiceResponse{}, f.fault("service", r.Msg.Name))
}

func (f fakeUpgrades) SetFlag(_ context.Context, r *connect.Request[v1.SetFlagRequest]) (*connect.Response[v1.SetFlagResponse], error) {
	f.record("SetFlag", r.Msg)
	return answer(&v1.SetFlagResponse{}, f.fault("service", r.Msg.Name))
}

func (f fakeUpgrades) StartUpgrade(_ context.Context, r *connect.Request[v1.StartUpgradeRequest]) (*connect.Response[v1.StartUpgradeResponse], error) {
	f.record("StartUpgrade", r.Msg)
	if err := f.fault("service", r.Msg.Service); err != nil {
		return nil, err
	}
	if r.Msg.Service == "current" {
		return answer(&v1.StartUpgradeResponse{}, nil)
	}
	return answer(&v1.StartUpgradeResponse{Upgrade: someUpgrade("u-" + r.Msg.Service)}, nil)
}

func (f fakeUpgrades) ListUpgrades(_ context.Context, r *connect.Request[v1.ListUpgradesRequest]) (*connect.Response[v1.ListUpgradesResponse], error) {
	f.record("ListUpgrades", r.Msg)
	if f.empty {
		return answer(&v1.ListUpgradesResponse{}, nil)
	}
	return answer(&v1.ListUpgradesResponse{Upgrades: []*v1.Upgrade{someUpgrade("u-1")}}, nil)
}

func (f fakeUpgrades) GetUpgrade(_ context.Context, r *connect.Request[v1.GetUpgradeRequest]) (*connect.Response[v1.GetUpgradeResponse], error) {
	f.record("GetUpgrade", r.Msg)
	return answer(&v1.GetUpgradeResponse{Upgrade: endOfUpgrade(someUpgrade(r.Msg.Id))}, f.fault("upgrade", r.Msg.Id))
}

func (f fakeUpgrades) WatchUpgrade(_ context.Context, r *connect.Request[v1.WatchUpgradeRequest], s *connect.ServerStream[v1.WatchUpgradeResponse]) error {
	f.record("WatchUpgrade", r.Msg)
	if r.Msg.Id == "u-cut" {
		return nil
	}
	for _, one := range []*v1.Upgrade{someUpgrade(r.Msg.Id), endOfUpgrade(someUpgrade(r.Msg.Id))} {
		if err := s.Send(&v1.WatchUpgradeResponse{Upgrade: one}); err != nil {
			return err
		}
	}
	return nil
}

func (f fakeUpgrades) PauseUpgrade(_ context.Context, r *connect.Request[v1.PauseUpgradeRequest]) (*connect.Response[v1.PauseUpgradeResponse], error) {
	f.record("PauseUpgrade", r.Msg)
	return answer(&v1.PauseUpgradeResponse{}, f.fault("upgrade", r.Msg.Id))
}

func (f fakeUpgrades) ResumeUpgrade(_ context.Context, r *connect.Request[v1.ResumeUpgradeRequest]) (*connect.Response[v1.ResumeUpgradeResponse], error) {
	f.record("ResumeUpgrade", r.Msg)
	return answer(&v1.ResumeUpgradeResponse{}, f.fault("upgrade", r.Msg.Id))
}

func (f fakeUpgrades) AbortUpgrade(_ context.Context, r *connect.Request[v1.AbortUpgradeRequest]) (*connect.Response[v1.AbortUpgradeResponse], error) {
	f.record("AbortUpgrade", r.Msg)
	return answer(&v1.AbortUpgradeResponse{}, f.fault("upgrade", r.Msg.Id))
}

func someService(name string) *v1.Service {
	return &v1.Service{
		Name: name, Versions: []string{"v1", "v2"}, Applied: ago(time.Hour), AppliedBy: "admin", Upgrade: "u-1", Flags: []string{"spring"},
		Running: map[string]int32{"v1": 1, "v2": 1},
		Pods: []*v1.ServicePod{
			{Pod: "shop-0", Host: "h1", Version: "v2", Since: ago(5 * time.Minute), Phase: v1.PodPhase_POD_PHASE_RUNNING, Image: "shop:2"},
			{Pod: "shop-1", Host: "h2", Version: "v1", Since: ago(24 * time.Hour), Phase: v1.PodPhase_POD_PHASE_RUNNING, Image: "shop:1"},
		},
		Clients:     []*v1.ServiceClient{{Pod: "till", Host: "h2", Version: "v1", Address: "10.77.128.9"}},
		Translators: []*v1.ServiceTranslator{{From: "v1", To: "v2", Clients: []string{"till"}, Servers: []string{"shop-0"}}},
		Gateway: &v1.ServiceGateway{
			Pod: "shop-front", Host: "h3", Phase: v1.PodPhase_POD_PHASE_RUNNING, Problem: "it is serving, generation 6 of 7",
			Backends: []*v1.ShimBackendState{
				{Backend: &v1.ShimBackend{Name: "shop-0", Address: "10.77.128.2:8080", Version: "v2"}, Healthy: true, Calls: 4},
				{Backend: &v1.ShimBackend{Name: "shop-1", Address: "10.77.128.3:8080", Version: "v1", Hold: true}},
			},
		},
	}
}

// someUpgrade is one in the middle of its second pod.
func someUpgrade(id string) *v1.Upgrade {
	return &v1.Upgrade{
		Id: id, Service: "shop", To: "v2", Image: "shop:2", ImageDigest: "sha256:2", State: v1.UpgradeState_UPGRADE_STATE_RUNNING,
		StartedBy: "admin", Started: ago(5 * time.Minute), Schedule: &v1.UpgradeSchedule{Kind: "rolling", AtOnce: 1, Soak: ms(60000)},
		Pods: []*v1.UpgradePod{
			{Pod: "shop-0", From: "v1", State: v1.UpgradePodState_UPGRADE_POD_STATE_UPGRADED, Attempt: 1, Steps: []*v1.UpgradeStep{{Name: "stop", Took: ms(900), Attempt: 1}}},
			{
				Pod: "shop-1", From: "v1", State: v1.UpgradePodState_UPGRADE_POD_STATE_RUNNING, Step: "health", Attempt: 1, Activity: "container shop-1 has not been asked yet",
				Steps: []*v1.UpgradeStep{{Name: "stop", Took: ms(900), Attempt: 1}, {Name: "transform", Took: ms(1200), Attempt: 1}},
			},
			{Pod: "shop-2", From: "v1", State: v1.UpgradePodState_UPGRADE_POD_STATE_PENDING},
		},
	}
}

// endOfUpgrade is what becomes of it: as its id says.
func endOfUpgrade(u *v1.Upgrade) *v1.Upgrade {
	if u.Id != "u-failing" {
		u.State, u.Ended = v1.UpgradeState_UPGRADE_STATE_FINISHED, ago(0)
		for _, p := range u.Pods {
			p.State, p.Step, p.Activity = v1.UpgradePodState_UPGRADE_POD_STATE_UPGRADED, "", ""
		}
		return u
	}
	u.State, u.Reason = v1.UpgradeState_UPGRADE_STATE_STOPPED, "a pod failed, and runs the version that it had"
	u.Pods[1].State, u.Pods[1].Activity = v1.UpgradePodState_UPGRADE_POD_STATE_FAILED, ""
	u.Problems = []*v1.Refusal{{Reason: "pod shop-1, health: it is not healthy", Remedy: "see `drydock pod logs shop-1`"}}
	return u
}
