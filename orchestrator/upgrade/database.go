package upgrade

import (
	"context"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/store"
	"drydock/pods/manifest"
)

// get is a service with what runs of it now.
func (s *Services) get(ctx context.Context, name string) (*drydockv1.Service, error) {
	item, err := s.service(ctx, name)
	if err != nil {
		return nil, err
	}
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return nil, err
	}
	wire, err := describe(item.Value, pods)
	if err != nil {
		return nil, err
	}
	for _, p := range wire.GetPods() {
		record, err := store.Get[drydockv1.PodRecord](ctx, s.Store, s.Prefix+"pods/"+p.GetPod())
		if err != nil {
			continue // it was removed meanwhile
		}
		p.Since = record.Value.GetVersionSince()
		if p.Since == nil {
			p.Since = record.Value.GetCreated()
		}
	}
	wire.Gateway, err = s.gateway(ctx, item.Value, pods)
	return wire, err
}

// gateway is a service's, as its host sees it; nil where the record has none.
func (s *Services) gateway(ctx context.Context, stored *drydockv1.ServiceRecord, pods []*drydockv1.Pod) (*drydockv1.ServiceGateway, error) {
	h, err := headOf(stored)
	if err != nil || h.Gateway == nil {
		return nil, err
	}
	pod := named(pods, h.Gateway.Pod)
	wire := &drydockv1.ServiceGateway{Pod: h.Gateway.Pod, Host: pod.GetHost(), Phase: pod.GetPhase()}
	switch {
	case pod == nil:
		wire.Phase, wire.Problem = drydockv1.PodPhase_POD_PHASE_PENDING, "it is not run yet: it needs a server that serves"
		return wire, nil
	case pod.GetPhase() != drydockv1.PodPhase_POD_PHASE_RUNNING:
		wire.Problem = pod.GetMessage()
		return wire, nil
	}
	state, err := s.shimState(ctx, pod)
	if err == nil {
		wire.Backends, err = state.GetBackends(), wrongWith(state, pod.GetSpec().GetShim())
	}
	if err != nil {
		wire.Problem = err.Error()
	}
	return wire, nil
}

// list is all services, without what runs of them but how much.
func (s *Services) list(ctx context.Context) ([]*drydockv1.Service, error) {
	items, err := store.List[drydockv1.ServiceRecord](ctx, s.Store, s.Prefix+"services/")
	if err != nil {
		return nil, err
	}
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return nil, err
	}
	var all []*drydockv1.Service
	for _, item := range items {
		wire, err := describe(item.Value, pods)
		if err != nil {
			return nil, err
		}
		wire.Pods, wire.Clients, wire.Translators = nil, nil, nil
		all = append(all, wire)
	}
	return all, nil
}

// describe is the service as the pods show it.
func describe(record *drydockv1.ServiceRecord, pods []*drydockv1.Pod) (*drydockv1.Service, error) {
	versions, err := versionsOf(record)
	if err != nil {
		return nil, err
	}
	wire := &drydockv1.Service{
		Name: record.GetName(), Versions: versions, Applied: record.GetApplied(), AppliedBy: record.GetAppliedBy(),
		Upgrade: record.GetUpgrade(), Flags: record.GetFlags(), Running: map[string]int32{},
	}
	for _, u := range usesOf(record.GetName(), pods) {
		spec := u.pod.GetSpec()
		if u.client {
			wire.Clients = append(wire.Clients, &drydockv1.ServiceClient{Pod: spec.GetName(), Host: u.pod.GetHost(), Version: u.version, Address: addressOf(spec)})
			continue
		}
		wire.Running[u.version]++
		wire.Pods = append(wire.Pods, &drydockv1.ServicePod{
			Pod: spec.GetName(), Host: u.pod.GetHost(), Version: u.version, Phase: u.pod.GetPhase(), Image: serving(spec).GetImage(),
		})
	}
	wire.Translators = needed(versions, wire.GetPods(), wire.GetClients())
	return wire, nil
}

// addressOf is a pod's first address, without prefix length.
func addressOf(spec *drydockv1.PodSpec) string {
	if len(spec.GetAddresses()) == 0 {
		return ""
	}
	address, _, _ := strings.Cut(spec.GetAddresses()[0], "/")
	return address
}

// serving is the container of a pod that serves: the one that has the service's name, else the first.
func serving(spec *drydockv1.PodSpec) *drydockv1.Container {
	service := spec.GetLabels()[manifest.LabelService]
	for _, c := range spec.GetContainers() {
		if c.GetName() == service {
			return c
		}
	}
	if len(spec.GetContainers()) == 0 {
		return nil
	}
	return spec.GetContainers()[0]
}

// needed are the translators that stand between clients and servers, in the order of the versions: first those that take old calls
// to newer servers. Any client may reach any server.
func needed(versions []string, servers []*drydockv1.ServicePod, clients []*drydockv1.ServiceClient) []*drydockv1.ServiceTranslator {
	var found []*drydockv1.ServiceTranslator
	stand := func(from, to int, through func(client, server int) bool) {
		t := &drydockv1.ServiceTranslator{From: versions[from], To: versions[to]}
		for _, c := range clients {
			for _, s := range servers {
				if !through(slices.Index(versions, c.GetVersion()), slices.Index(versions, s.GetVersion())) {
					continue
				}
				t.Clients, t.Servers = append(t.Clients, c.GetPod()), append(t.Servers, s.GetPod())
			}
		}
		if len(t.Clients) == 0 {
			return
		}
		slices.Sort(t.Clients)
		slices.Sort(t.Servers)
		t.Clients, t.Servers = slices.Compact(t.Clients), slices.Compact(t.Servers)
		found = append(found, t)
	}
	for i := 1; i < len(versions); i++ {
		stand(i-1, i, func(client, server int) bool { return client >= 0 && client < i && server >= i })
	}
	for i := len(versions) - 1; i > 0; i-- {
		stand(i, i-1, func(client, server int) bool { return server >= 0 && client >= i && server < i })
	}
	return found
}
