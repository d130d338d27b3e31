package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/orchestrator/store"
)

const (
	// ethernetMTU is what a pod's interface has where nothing else is said.
	ethernetMTU = 1500
	// vxlanOverhead is what a VXLAN over IPv4 takes of each frame.
	vxlanOverhead = 50
)

// networkRecord is what was settled of the pods' network, empty where nothing was.
func (c *Controller) networkRecord(ctx context.Context) (store.Item[*drydockv1.NetworkRecord], error) {
	item, err := store.Get[drydockv1.NetworkRecord](ctx, c.store, keyNetwork)
	if errors.Is(err, store.ErrNotFound) {
		return store.Item[*drydockv1.NetworkRecord]{Key: keyNetwork, Value: &drydockv1.NetworkRecord{}}, nil
	}
	return item, err
}

// podNetwork is what joins the pods of different hosts, as agents are told.
func (c *Controller) podNetwork(ctx context.Context) (*drydockv1.PodNetwork, error) {
	item, err := c.networkRecord(ctx)
	if err != nil {
		return nil, err
	}
	return c.toldNetwork(item.Value), nil
}

// toldNetwork is what was settled, as agents are told it.
func (c *Controller) toldNetwork(record *drydockv1.NetworkRecord) *drydockv1.PodNetwork {
	n := c.config.Network
	return &drydockv1.PodNetwork{Kind: record.GetKind(), Reason: record.GetReason(), Vni: n.VNI, Port: uint32(n.Port), Mtu: n.MTU}
}

// podMTU is what a new pod's interface gets: room for VXLAN's headers where that is used, or may come to be.
func (c *Controller) podMTU(ctx context.Context) (uint32, error) {
	network, err := c.podNetwork(ctx)
	if err != nil {
		return 0, err
	}
	if network.GetKind() == config.NetworkBridge {
		return network.GetMtu(), nil
	}
	return network.GetMtu() - vxlanOverhead, nil
}

// settleNetwork writes down what joins the pods, once that can be said. What was settled stays: pods hang on it.
func (c *Controller) settleNetwork(ctx context.Context, r *reign) error {
	item, err := c.networkRecord(ctx)
	if err != nil {
		return err
	}
	kind, reason, err := c.networkKind(ctx, item.Value)
	if err != nil || item.Revision != 0 && kind == item.Value.GetKind() && reason == item.Value.GetReason() {
		return err
	}
	record := &drydockv1.NetworkRecord{Kind: kind, Reason: reason, Decided: timestamppb.New(c.now())}
	_, err = c.store.Txn().If(r.term.Holds(), store.Unchanged(keyNetwork, item.Revision)).Put(keyNetwork, record).Commit(ctx)
	if err == nil && kind != item.Value.GetKind() {
		c.log.Info("the pods' network is settled", "kind", kind, "reason", reason)
	}
	return err
}

func (c *Controller) networkKind(ctx context.Context, have *drydockv1.NetworkRecord) (kind, reason string, err error) {
	want := c.config.Network.Kind
	switch {
	case want == config.NetworkAuto && have.GetKind() != "":
		return have.GetKind(), have.GetReason(), nil
	case want == config.NetworkAuto:
		return c.provenKind(ctx)
	case want == config.NetworkVXLAN && have.GetKind() != want:
		large, err := c.podsAbove(ctx, c.config.Network.MTU-vxlanOverhead)
		if err != nil || len(large) > 0 {
			return have.GetKind(), tooLarge("`network.kind` asks for vxlan", large), err
		}
	}
	return want, "`network.kind` of the controller", nil
}

func tooLarge(why string, pods []string) string {
	return fmt.Sprintf("%s, but frames of pods that were made before are too large for it (%s): remove these and make them again", why, strings.Join(pods, ", "))
}

// podsAbove are the pods whose interface has a larger MTU.
func (c *Controller) podsAbove(ctx context.Context, mtu uint32) ([]string, error) {
	items, err := store.List[drydockv1.PodRecord](ctx, c.store, keyPods)
	if err != nil {
		return nil, err
	}
	var large []string
	for _, item := range items {
		spec := item.Value.GetSpec()
		if own := spec.GetMtu(); own > mtu || own == 0 && ethernetMTU > mtu {
			large = append(large, spec.GetName())
		}
	}
	return large, nil
}

// provenKind is what the hosts have proven: the bridge as soon as two of them have shown that it carries a pod's MAC, VXLAN
// where two have shown that it does not and every host can make one; nothing before that.
func (c *Controller) provenKind(ctx context.Context) (kind, reason string, err error) {
	l, err := c.links(ctx)
	if err != nil {
		return "", "", err
	}
	failed := ""
	for _, record := range l.records {
		switch ends := record.GetA().GetHost() + " and " + record.GetB().GetHost(); {
		case !l.current(record):
		case record.GetState() == linkProven:
			return config.NetworkBridge, "the network carries a pod's MAC between " + ends, nil
		case record.GetState() == linkFailed:
			failed = "the network does not carry a pod's MAC between " + ends
		}
	}
	switch {
	case failed == "" && len(l.hosts) < 2:
		return "", "no other host has joined to prove with whether the network carries a pod's MAC", nil
	case failed == "":
		return "", "no two hosts have proven yet whether the network carries a pod's MAC", nil
	}
	for _, name := range sortedKeys(l.hosts) {
		info := l.hosts[name].report.GetInfo()
		if problem := info.GetVxlanProblem(); problem != "" {
			return "", fmt.Sprintf("%s, and host %s cannot use VXLAN: %s", failed, name, problem), nil
		}
		if info.GetNetwork() == "" {
			return "", fmt.Sprintf("%s, and the agent of host %s is too old for VXLAN: upgrade it", failed, name), nil
		}
	}
	large, err := c.podsAbove(ctx, c.config.Network.MTU-vxlanOverhead)
	if err != nil || len(large) > 0 {
		return "", tooLarge(failed+", so VXLAN is needed", large), err
	}
	return config.NetworkVXLAN, failed, nil
}

// tellAll is up to how many hosts there may be for those to be named too with which nothing was tried.
const tellAll = 200

// describeNetwork says of a host what its pods hang on and why, and what was proven between it and the others.
func (l links) describeNetwork(h host, wire *drydockv1.Host) {
	for _, name := range sortedKeys(l.hosts) {
		if name != h.name() && (len(l.hosts) <= tellAll || l.record(h, l.hosts[name]) != nil) {
			wire.Links = append(wire.Links, l.between(h, l.hosts[name]).wire(name))
		}
	}
	info := wire.GetInfo()
	if info == nil {
		return
	}
	own := info.GetNetworkReason()
	switch {
	case own != "":
		info.NetworkReason = fmt.Sprintf("it is to be %s: %s", l.network.GetKind(), own)
	case l.network.GetKind() == "":
		info.Network, info.NetworkReason = linkUnproven, l.network.GetReason()
	default:
		info.NetworkReason = l.network.GetReason()
	}
	for _, link := range wire.GetLinks() {
		if link.GetState() != linkProven && wire.GetMessage() == "" {
			wire.Message = "no pod can move between it and " + link.GetPeer() + ": " + link.GetReason()
		}
	}
}
