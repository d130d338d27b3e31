package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods"
	"drydock/pods/network"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// kinds of network between pods of different hosts.
const (
	overBridge = "bridge"
	overVXLAN  = "vxlan"
)

// podNetwork makes this host's part of what joins the pods of different hosts, as the controllers say it is. What they said
// last is kept on disk: after a boot pods are plugged in before a controller has answered.
type podNetwork struct {
	*agent
	// vxlan is why this host's kernel cannot make a VXLAN, or nil.
	vxlan error

	mu sync.Mutex
	// made is what this host last made; problem is why it is not what it should be.
	made    *drydockv1.ReportResponse
	problem error
}

func newPodNetwork(a *agent) *podNetwork { return &podNetwork{agent: a, vxlan: network.CheckVXLAN()} }

func (n *podNetwork) path() string { return filepath.Join(n.cfg.DataDir, "network.json") }

// restore makes what the controllers last asked for.
func (n *podNetwork) restore(ctx context.Context) error {
	if err := n.pods.SweepProbes(ctx); err != nil {
		return err
	}
	data, err := os.ReadFile(n.path())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	said := new(drydockv1.ReportResponse)
	if err == nil {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, said)
	}
	if err != nil {
		n.log.Warn("what the controllers said of the pods' network cannot be read; their next answer makes it anew", "path", n.path(), "error", err)
		return nil
	}
	n.learn(ctx, said)
	return nil
}

// learn takes in what a controller says of the pods' network and of the hosts in it. One that is older says nothing of it.
func (n *podNetwork) learn(ctx context.Context, said *drydockv1.ReportResponse) {
	if said.Network == nil {
		return
	}
	wanted := &drydockv1.ReportResponse{Network: said.Network, Peers: addressesOf(said.Peers)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.problem == nil && proto.Equal(n.made, wanted) {
		return
	}
	before := n.made.GetNetwork().GetKind()
	err := n.make(ctx, wanted)
	if err != nil && (n.problem == nil || n.problem.Error() != err.Error()) {
		n.log.Error("the pods' network is not as the controllers say", "kind", wanted.Network.Kind, "error", err)
	}
	if n.problem = err; err != nil {
		return
	}
	if kind := wanted.Network.Kind; kind != before {
		n.log.Info("pods hang on", "network", kind, "reason", wanted.Network.Reason)
	}
	n.made = wanted
}

// addressesOf keeps of peers what a network depends on.
func addressesOf(peers []*drydockv1.Peer) []*drydockv1.Peer {
	kept := make([]*drydockv1.Peer, 0, len(peers))
	for _, peer := range peers {
		kept = append(kept, &drydockv1.Peer{Name: peer.Name, Address: peer.Address})
	}
	return kept
}

func (n *podNetwork) make(ctx context.Context, wanted *drydockv1.ReportResponse) error {
	if wanted.Network.Kind != overVXLAN {
		n.pods.LeaveOverlay()
		if err := n.rehang(ctx); err != nil {
			return err
		}
		return errors.Join(n.pods.RemoveOverlay(), n.keep(wanted))
	}
	if n.vxlan != nil {
		return n.vxlan
	}
	overlay, err := n.overlay(wanted)
	if err != nil {
		return err
	}
	if err := n.pods.SetOverlay(overlay); err != nil {
		return err
	}
	return errors.Join(n.rehang(ctx), n.keep(wanted))
}

func (n *podNetwork) overlay(wanted *drydockv1.ReportResponse) (network.Overlay, error) {
	o := network.Overlay{VNI: wanted.Network.Vni, Port: uint16(wanted.Network.Port), MTU: int(wanted.Network.Mtu)}
	local, err := netip.ParseAddrPort(n.cfg.Listen)
	if err != nil {
		return o, fmt.Errorf("a VXLAN needs numeric addresses of hosts: `listen` of this agent: %w", err)
	}
	o.Local = local.Addr()
	for _, peer := range wanted.Peers {
		address, err := netip.ParseAddrPort(peer.Address)
		if err != nil {
			return o, fmt.Errorf("a VXLAN needs numeric addresses of hosts: `listen` of host %s: %w", peer.Name, err)
		}
		o.Peers = append(o.Peers, address.Addr())
	}
	return o, nil
}

// rehang plugs the pods that run here into what new ones are plugged into. One that somebody acts on at the moment is an
// error, and follows with the next report.
func (n *podNetwork) rehang(ctx context.Context) error {
	names, err := n.pods.Names()
	if err != nil {
		return err
	}
	var errs []error
	for _, pod := range names {
		err := n.engine.WithResident(ctx, pod, func() error { return n.pods.Hang(ctx, pod) })
		if err == nil {
			err = n.pods.HangsRight(ctx, pod)
		}
		if err != nil && !errors.Is(err, network.ErrNotFound) && !errors.Is(err, pods.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (n *podNetwork) keep(said *drydockv1.ReportResponse) error {
	data, err := protojson.Marshal(said)
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.path()+".new", data, 0o600); err != nil {
		return fmt.Errorf("keep the pods' network: %w", err)
	}
	return os.Rename(n.path()+".new", n.path())
}

// describe says in a host's report what its pods hang on, and why that is not what it should be.
func (n *podNetwork) describe(info *drydockv1.HostInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	info.Network = overBridge
	if n.made.GetNetwork().GetKind() == overVXLAN {
		info.Network = overVXLAN
	}
	if n.problem != nil {
		info.NetworkReason = n.problem.Error()
	}
	if n.vxlan != nil {
		info.VxlanProblem = n.vxlan.Error()
	}
}
